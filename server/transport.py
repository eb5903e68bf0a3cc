"""Node to node: Raft's messages over persistent HTTP connections, and snapshots as HTTP bodies.

    the thread that owns        a sender thread            one connection              a receiver thread       the other
    the Raft node               for each peer              for each peer               for each connection     node's inbox

    send(messages)  ──────▶  queue, bounded  ──────▶  frame │ frame │ frame  ──────▶  check, decode  ──────▶  receive([...])

A connection begins as a request and, once both sides have said who they are (server/handshake.py), is a stream of frames
(server/frames.py) in one direction; answers come back on the connection that the other node's sender opened. A snapshot
has a connection of its own, and goes in chunks, from where an earlier connection was cut (server/snapshot_wire.py).

Invariants:

1. `send` never blocks (server/peer_sender.py). A full queue drops what is new, and says so through `unreachable`: Raft
   then probes, and sends again what matters.
2. Messages between two nodes arrive in order, once, or not at all. A connection that breaks may lose any tail.
3. A node listens only to members of its own cluster that meant it and came with their own directory, and sends only to
   such; who they are is the roster's to say, and changes while it runs (`follow`). Everything else is refused before a
   byte of Raft is read. A frame that fails its checksum or doesn't decode ends the connection.
4. Nothing that a peer sends is believed to have a size: frames and snapshots have limits. Nothing is ever unpickled, and
   no name from the network becomes the name of a file.
5. Threads and queues are bounded, here and on the port where the peers' connections arrive (server/peer_port.py).
6. Beyond loopback, peers have a secret, and prove it (server/secret.py).

Left out: TLS; the network must keep out everybody who could read or change what is on the wire between two nodes. Follows
etcd's rafthttp: its stream and snapshot channels, its X-Etcd headers, and its rule that a full buffer drops.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import BinaryIO, Protocol

from raft.raftpb import MSG_SNAP, Message
from server.config import Peers
from server.feed_taps import Taps
from server.handshake import Handshake, Refusals
from server.logs import Minutely, logger
from server.loop import Loop
from server.metrics import Histogram, Metrics, describe, labelled
from server.peer_port import Hearer, PeerPort
from server.peer_sender import Dialer, PeerSender
from server.request import is_local_name
from server.roster import Roster
from server.snapshot_wire import SnapshotRefused

__all__ = ["Receiver", "SecretMissing", "Transport", "require_secret"]

describe(
    {
        "snapshots_sent_total": "Snapshots that peers have taken whole.",
        "snapshot_bytes_sent_total": "Bytes of snapshots that were sent to peers.",
    }
)

STOP_TIMEOUT_S = 0.5  # for all threads together; what still waits for a machine that is away ends with the process
RESUME_DELAYS_S = (0.05, 0.5, 2.0, 5.0)  # after a cut; then Raft is told that the snapshot didn't arrive, and decides


class SecretMissing(ValueError):
    """A node would listen for peers beyond its machine without a secret; the sentence says what to do."""


class Receiver(Hearer, Protocol):
    """What a node does with what its peers send, and with what becomes of its own; called by the transport's threads."""

    def unreachable(self, node_id: int, dropped: list[Message]) -> None:
        """A peer's queue was full, or its connection broke; `dropped` is what surely was not sent."""

    def snapshot_sent(self, node_id: int, delivered: bool) -> None:
        """A snapshot that `send_snapshot` took has arrived, or has not."""


class Transport:
    """One node's connections to all of its peers, and its listener for theirs."""

    def __init__(
        self,
        roster: Roster,
        peers: Peers,
        receiver: Receiver,
        secret: bytes = b"",
        listen: tuple[str, int] | None = None,
        loop: Loop | None = None,
    ) -> None:
        """Binds the listener at once, so that a taken port is an OSError here. `start` begins to talk.

        listen: where, if the peers call this node at another address than that.
        loop: of the thread that calls `send`; the streams are read in it, and written to by `send` itself. None: by threads.
        Raises SecretMissing if it listens beyond this machine without a secret.
        """
        self.node_id = roster.node_id
        listen = listen or peers[self.node_id]
        require_secret(listen[0], secret)
        self.handshake = Handshake(roster, secret)
        self.refusals = Refusals(self.log, Minutely(logger()))
        self.taps: Taps | None = None
        self._receiver = receiver
        self._dialer = Dialer()
        self._changing = threading.Lock()
        self._started = False
        self._direct = loop is not None
        self._senders: dict[int, PeerSender] = {}  # replaced as a whole when members change
        self._retired: list[PeerSender] = []  # they call nobody any more, and may still be sending
        self._call(peers, ())
        self._port = PeerPort(
            listen, self.handshake, self.refusals, receiver, self.spread_news, peers[self.node_id][0], loop
        )
        self._snapshots: set[threading.Thread] = set()
        self.counters = dict.fromkeys(("snapshots_sent", "snapshot_bytes_sent"), 0)
        self._spread = self.handshake.roster.known()  # whose directories the peers were last told of

    def _call(self, peers: Peers, renewed: Collection[int]) -> None:
        """Has a sender for each of these members, and for nobody else; a new one for those whose directory is another."""
        with self._changing:
            before, senders = self._senders, {}
            for peer, address in sorted(peers.items()):
                known = before.get(peer)
                if known is not None and known.address == address and peer not in renewed:
                    senders[peer] = known
                elif peer != self.node_id:
                    senders[peer] = self._new_sender(peer, address)
            self._senders = senders
            over = [sender for sender in before.values() if sender not in senders.values()]
            self._retired = [sender for sender in (*self._retired, *over) if sender.is_alive()]
        for sender in over:
            sender.retire()

    def _new_sender(self, peer: int, address: tuple[str, int]) -> PeerSender:
        sender = PeerSender(
            peer,
            address,
            self._dialer,
            self.handshake,
            self.refusals,
            self._receiver.unreachable,
            self.spread_news,
            self._direct,
        )
        if self._started and not self._dialer.stopping.is_set():
            sender.introduce()
            sender.start()
        return sender

    def follow(self, gone: Collection[int] = ()) -> None:
        """Calls those whom the roster names now, where it says. gone: whose connections are at an end. For any thread.

        What is queued for a member that goes is still sent: the word that it was removed may be among it.
        """
        self._call(self.handshake.roster.addresses(), gone)
        if gone:
            self._port.expel(gone)

    def cut(self, mute: frozenset[int], deaf: frozenset[int]) -> None:
        """Cuts the links to the peers in `mute` and from those in `deaf`, and heals all others. For any thread.

        As with a cable: what is on its way is lost, connections end, and calls reach nobody. Raft hears that those peers
        are unreachable, and nothing else of it.
        """
        self._dialer.cut(mute)
        self._port.cut(deaf)
        for peer, sender in self._senders.items():
            if peer in mute:
                sender.hang_up()

    def start(self) -> None:
        """Starts the listener and a sender for each peer."""
        self._port.start()
        with self._changing:
            self._started = True
            for sender in self._senders.values():
                sender.introduce()
                sender.start()

    def wait_until_introduced(self, timeout_s: float) -> None:
        """Returns when every peer has been called once, whatever came of it, or after `timeout_s`.

        Peers may know that this node must not take part: it should hear that before it promises anything.
        """
        deadline = time.monotonic() + timeout_s
        for sender in self._senders.values():
            sender.introduced.wait(max(0.0, deadline - time.monotonic()))

    def introduce(self) -> None:
        """Has every peer called, although there is nothing to send."""
        for sender in self._senders.values():
            sender.introduce()

    def stop_introducing(self) -> None:
        """Ends the wait of `wait_until_introduced`: the node stops, whatever its peers know."""
        for sender in self._senders.values():
            sender.introduced.set()

    def spread_news(self) -> None:
        """Calls the peers again if a member was met since the last time: the others may not have met it.

        The one that was met may be none that this node knew of, or be elsewhere than it knew.
        """
        known = self.handshake.roster.known()
        self.follow()
        if self._spread != known:
            self._spread = known
            self.introduce()

    def send(self, messages: Sequence[Message]) -> None:
        """Queues each message for the node it is addressed to; never blocks. MsgSnap goes by `send_snapshot`."""
        if self.taps is not None:
            self.taps.sent(messages)
        for peer, sender in self._senders.items():
            own = [message for message in messages if message.to == peer]
            if own:
                for message in sender.send(own):
                    self._receiver.unreachable(peer, [message])

    def send_snapshot(self, message: Message, write: Callable[[], str]) -> None:
        """Sends a MsgSnap and the file that `write()` writes and names, in a thread of its own.

        `write` is called in that thread. How it ended is told through `Receiver.snapshot_sent`.
        """
        assert message.type == MSG_SNAP
        if self.taps is not None:
            self.taps.sent([message])
        thread = threading.Thread(target=self._send_snapshot, args=(message, write), name=f"snapshot-{message.to}")
        thread.daemon = True
        self._snapshots = {t for t in self._snapshots if t.is_alive()} | {thread}
        thread.start()

    def _send_snapshot(self, message: Message, write: Callable[[], str]) -> None:
        delivered = False
        try:
            with open(write(), "rb") as file:
                self._deliver(message, file)
            delivered = True
        except Exception as error:
            if not self._dialer.stopping.is_set():
                self.log(f"the snapshot for node {message.to} was not delivered: {error}")
        finally:  # whatever happens: Raft sends nothing to that node, and no other snapshot, until it hears of this one
            self._receiver.snapshot_sent(message.to, delivered)

    def _deliver(self, message: Message, file: BinaryIO) -> None:
        """Sends a snapshot; after a cut, what the peer says that it doesn't have. Raises what the last attempt raised."""
        encoded = message.encode()
        for delay_s in (*RESUME_DELAYS_S, None):
            try:
                self.counters["snapshot_bytes_sent"] += self._senders[message.to].post_snapshot(encoded, file)
                self.counters["snapshots_sent"] += 1
                return
            except SnapshotRefused:
                raise
            except (OSError, http.client.HTTPException):
                if delay_s is None or self._dialer.stopping.wait(delay_s):
                    raise

    def stop(self) -> None:
        """Closes every connection and ends every thread; what was queued is lost, as on a broken connection."""
        self._dialer.stopping.set()
        self._port.stop()
        with self._changing:
            senders = [*self._senders.values(), *self._retired]
        for sender in senders:
            sender.stop()
        self._dialer.stop()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for thread in [*senders, *self._snapshots]:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def metrics(self) -> Metrics:
        """The port's counters, for each peer the connection to it and what goes over it, and the snapshots that were sent."""
        own: dict[str, int | float | Histogram] = {}
        for peer, sender in self._senders.items():
            own |= {labelled(name, peer=peer): count for name, count in sender.metrics().items()}
        for name, count in self.counters.items():
            own[f"{name}_total"] = count
        return {**self._port.metrics(), **own}

    def connected(self) -> dict[int, bool]:
        """For each peer, whether there is a connection to it now."""
        return {peer: sender.connected for peer, sender in self._senders.items()}

    def log(self, sentence: str) -> None:
        logger().warning("node %d: %s", self.node_id, sentence)


def require_secret(host: str, secret: bytes) -> None:
    """Raises SecretMissing if a node listens for peers beyond its machine and has no secret to know them by."""
    if not secret and not _is_loopback(host):
        raise SecretMissing(
            f"peers reach this node at {host}, beyond this machine, so they have to prove that they belong to it: start "
            "all nodes with --peer-secret-file FILE, the same secret in each (head -c 32 /dev/urandom | base64)"
        )


def _is_loopback(host: str) -> bool:
    return host == "::1" or host.lower() == "localhost" or (host.startswith("127.") and is_local_name(host.encode()))
