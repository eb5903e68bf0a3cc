"""What can be done to three nodes: each fault a function that begins it, waits while the clients go on, and ends it.

`stage.wait(seconds)` is the fault's time. What a fault leaves stopped or broken, the round's `heal` mends; a fault that has to
know something of its end (who leads, what a node says) asks for it with a condition, and never waits for time alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.cluster.processes import Cluster, Failed, until
from tests.cluster.proxy import DROP, HOLD, RESET, Link, delay

__all__ = ["FAULTS", "SHORT", "Stage"]

FILLER_BYTES = 500_000
REPLACED_S = 60.0
ENDS_S = 20.0  # a node whose disk is full ends within that time


@dataclass
class Stage:
    """What a fault has in its hands."""

    cluster: Cluster
    rng: random.Random
    wait: Callable[[float], object]  # seconds, while the clients go on
    say: Callable[[str], None]
    in_vain: Callable[[], int]  # how many calls of server/client.py have failed so far

    def someone(self) -> int:
        """The leader twice out of three times, or a follower."""
        leader = self.cluster.leader()
        return leader if self.rng.random() < 2 / 3 else self.rng.choice(self.cluster.followers())

    def no_call_failed_since(self, before: int) -> None:
        """Raises Failed if a call of server/client.py, which asks again by itself where it may, has ended in an error."""
        if self.in_vain() > before:
            raise Failed(
                f"{self.in_vain() - before} calls of server/client.py failed, and all could have been answered"
            )

    @property
    def beyond_election_s(self) -> float:
        """Longer than any follower waits before it campaigns, and time for the new leader to serve."""
        return 1.5 * self.cluster.election_s

    def cut(self, *links: Link) -> None:
        self.cluster.proxy.set(DROP, *links)


def around(node_id: int, cluster: Cluster) -> list[Link]:
    """All links from and to a node."""
    return [link for link in cluster.proxy.links() if node_id in link]


def kill_leader(stage: Stage) -> None:
    victim = stage.cluster.leader()
    stage.say(f"kills the leader, node {victim}")
    stage.cluster.kill(victim)
    stage.wait(stage.beyond_election_s)


def kill_follower(stage: Stage) -> None:
    victim = stage.rng.choice(stage.cluster.followers())
    stage.say(f"kills follower {victim}")
    stage.cluster.kill(victim)
    stage.wait(stage.rng.uniform(0.2, 1.0))


def kill_all(stage: Stage) -> None:
    stage.say("kills all nodes")
    stage.cluster.kill(*stage.cluster.running)


def pause(stage: Stage) -> None:
    """A process that stands still, and goes on with a wrong idea of the time."""
    victim = stage.someone()
    stage.say(f"stops node {victim} for longer than an election")
    stage.cluster.pause(victim)
    stage.wait(stage.beyond_election_s)
    stage.cluster.resume(victim)
    stage.wait(0.3)


def isolate(stage: Stage) -> None:
    victim = stage.someone()
    stage.say(f"cuts node {victim} off")
    stage.cut(*around(victim, stage.cluster))
    stage.wait(stage.beyond_election_s)


def stall(stage: Stage) -> None:
    """As isolate, but nothing is lost: all of it arrives late."""
    victim = stage.someone()
    stage.say(f"holds back all that goes to and from node {victim}")
    stage.cluster.proxy.set(HOLD, *around(victim, stage.cluster))
    stage.wait(stage.beyond_election_s)


def one_way(stage: Stage) -> None:
    link = stage.rng.choice(stage.cluster.proxy.links())
    stage.say(f"cuts the link from node {link[0]} to node {link[1]}, and not the other way")
    stage.cut(link)
    stage.wait(stage.beyond_election_s)


def ring(stage: Stage) -> None:
    """Each node hears one of the others, and is heard by the other one."""
    nodes = list(stage.cluster.engines)
    if stage.rng.random() < 0.5:
        nodes.reverse()
    stage.say(f"leaves one direction of a ring: {nodes}")
    stage.cut(*zip(nodes, nodes[1:] + nodes[:1]))
    stage.wait(stage.beyond_election_s)


def nobody(stage: Stage) -> None:
    """No majority anywhere."""
    stage.say("cuts every link")
    stage.cut(*stage.cluster.proxy.links())
    stage.wait(stage.beyond_election_s)


def deaf_leader(stage: Stage) -> None:
    """It can be heard, so that nobody campaigns, and hears nothing, so that it commits nothing."""
    leader = stage.cluster.leader()
    stage.say(f"makes the leader, node {leader}, deaf")
    stage.cut(*((other, leader) for other in stage.cluster.engines if other != leader))
    stage.wait(2 * stage.beyond_election_s)


def cut_one_follower_from_the_leader(stage: Stage) -> None:
    leader = stage.cluster.leader()
    follower = stage.rng.choice(stage.cluster.followers())
    stage.say(f"cuts the link between the leader, node {leader}, and node {follower}")
    stage.cut((leader, follower), (follower, leader))
    stage.wait(stage.beyond_election_s)


def late(stage: Stage) -> None:
    """A long line everywhere, another length for each link."""
    stage.say("makes every link slow")
    for link in stage.cluster.proxy.links():
        stage.cluster.proxy.set(delay(stage.rng.uniform(0, 0.2) * stage.cluster.election_s), link)
    stage.wait(stage.beyond_election_s)


def resets(stage: Stage) -> None:
    stage.say("resets connections again and again")
    for _ in range(10):
        links = stage.rng.sample(stage.cluster.proxy.links(), 3)
        stage.cluster.proxy.set(RESET, *links)
        stage.wait(0.05)
        stage.cluster.proxy.heal()
        stage.wait(0.1)


def slow_disk(stage: Stage) -> None:
    victim = stage.someone()
    seconds = stage.rng.choice((0.05, 0.5)) * stage.cluster.election_s
    stage.say(f"makes every fsync of node {victim} take {seconds:.2f} s longer")
    stage.cluster.break_disk(victim, sync_delay_s=seconds)
    stage.wait(2 * stage.beyond_election_s)


def full_disk(stage: Stage) -> None:
    """The node ends loudly and acknowledges nothing more, the others go on."""
    victim = stage.someone()
    size = stage.rng.randrange(20_000)
    stage.say(f"fills the disk of node {victim} after {size:,} more bytes")
    stage.cluster.break_disk(victim, full_after_bytes=size)
    until(f"node {victim} ends", lambda: stage.cluster.ended(victim) or _fill(stage.cluster, victim), ENDS_S)
    if b"No space left on device" not in stage.cluster.log(victim).read_bytes():
        raise Failed(f"node {victim} ended and didn't say that its disk is full")
    stage.wait(stage.beyond_election_s)


def _fill(cluster: Cluster, victim: int) -> None:
    """Writes what needs room on every disk: logs have their next blocks already."""
    others = [node_id for node_id in cluster.running if node_id != victim]
    cluster.ask(others[0], "/filler", "PUT", b"x" * FILLER_BYTES)


def emptied_disk(stage: Stage) -> None:
    """A node that comes back with nothing is readmitted by a leader that was elected without it, and votes again: then
    another one goes, and the two go on."""
    cluster, victim = stage.cluster, stage.someone()
    stage.say(f"empties the disk of node {victim}")
    cluster.kill(victim)
    cluster.wipe(victim)
    cluster.start(victim)
    until(f"node {victim} is kept out", lambda: cluster.status(victim).get("kept_out"), ENDS_S)

    def votes_again() -> bool:
        status = cluster.status(victim)
        return bool(status) and not status["kept_out"] and not status["readmission"]

    until(f"node {victim} votes again", votes_again, ENDS_S)
    other = stage.rng.choice([node_id for node_id in cluster.running if node_id != victim])
    stage.say(f"kills node {other}: node {victim} counts again")
    cluster.kill(other)
    stage.wait(stage.beyond_election_s)
    cluster.leader()


def rolling_restart(stage: Stage) -> None:
    """SIGTERM and a new start, one after the other; the leader last."""
    order = [*stage.cluster.followers(), stage.cluster.leader()]
    stage.say(f"restarts the nodes {order}, one after the other")
    before = stage.in_vain()
    for node_id in order:
        stage.cluster.stop(node_id)
        stage.cluster.start(node_id)
        until(f"node {node_id} is healthy", lambda each=node_id: stage.cluster.ask(each, "/_/health")[0] == 200, ENDS_S)
    stage.no_call_failed_since(before)


def replace_all(stage: Stage) -> None:
    """Each member's place is taken by a node with an empty directory, one after the other; the leader's last."""
    order = [*stage.cluster.followers(), stage.cluster.leader()]
    before = stage.in_vain()
    for node_id in order:
        new = stage.cluster.replace(node_id, REPLACED_S)
        stage.say(f"node {new} has taken the place of node {node_id}")
    stage.no_call_failed_since(before)


def transfer(stage: Stage) -> None:
    """The leader hands over, again and again; asked of any node."""
    before = stage.in_vain()
    for _ in range(4):
        to = stage.rng.choice(stage.cluster.followers())
        asked = stage.rng.choice(list(stage.cluster.engines))
        stage.say(f"asks node {asked} to make node {to} the leader")
        status, body = stage.cluster.ask(asked, f"/_/leader/{to}", "POST")
        if status not in (0, 200, 503):
            raise Failed(f"a transfer was answered {status}: {body!r}")
        stage.wait(0.2)
    stage.no_call_failed_since(before)


Fault = Callable[[Stage], None]

FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        kill_leader, kill_follower, kill_all, pause, isolate, stall, one_way, ring, nobody, deaf_leader,
        cut_one_follower_from_the_leader, late, resets, slow_disk, full_disk, emptied_disk, rolling_restart, replace_all,
        transfer,
    )
}  # fmt: skip
SHORT = ("isolate", "kill_leader")  # a round of some seconds
