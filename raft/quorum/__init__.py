"""Who is enough: the arithmetic of majorities, alone and joint, without any other part of Raft.

Two questions are all that Raft asks of a configuration: which index has a quorum acknowledged (`committed_index`), and
how does a vote stand (`vote_result`). Both are asked of majorities (majority.py) and of two majorities at once
(joint.py, paper section 6), so that the rest of the library never counts nodes itself.

Follows etcd-io/raft: quorum/.
"""

from raft.quorum.joint import JointConfig
from raft.quorum.majority import MajorityConfig
from raft.quorum.quorum import INFINITE_INDEX, VOTE_LOST, VOTE_PENDING, VOTE_WON, VoteResult

__all__ = ["INFINITE_INDEX", "VOTE_LOST", "VOTE_PENDING", "VOTE_WON", "JointConfig", "MajorityConfig", "VoteResult"]
