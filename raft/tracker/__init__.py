"""What a leader knows of the others: how far each follower's log is, what is on its way, who has voted.

    state.py       the three states of a follower: probe, replicate, snapshot
    inflights.py   the window of messages sent and not yet answered
    progress.py    one follower: its match and next index, and the transitions between the states
    config.py      who takes part: voters and learners
    tracker.py     all of them, with the configuration and the votes of an election

Follows etcd-io/raft: tracker/.
"""

from raft.tracker.config import TrackerConfig
from raft.tracker.inflights import Inflights
from raft.tracker.progress import Progress
from raft.tracker.state import STATE_PROBE, STATE_REPLICATE, STATE_SNAPSHOT, ProgressState
from raft.tracker.tracker import ProgressTracker

__all__ = [
    "STATE_PROBE",
    "STATE_REPLICATE",
    "STATE_SNAPSHOT",
    "Inflights",
    "Progress",
    "ProgressState",
    "ProgressTracker",
    "TrackerConfig",
]
