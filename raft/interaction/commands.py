"""The vocabulary of interaction scripts: 22 commands of etcd's, and two of our own.

    add-nodes N [voters=(…)] [learners=(…)] [index=I] [content=TEXT] [inflight=N] [prevote=B] [checkquorum=B]
              [async-storage-writes=B] [max-committed-size-per-ready=N] [disable-conf-change-validation=B]
              [read-only=safe|lease-based] [step-down-on-removal=B] [max-size-per-msg=N, ours]
                                            with index, they start with a snapshot there, at term 1; index > 1
    campaign I                              as after a timeout
    propose I DATA
    propose-conf-change I [v1=B] [transition=auto|implicit|explicit]      input: v1 l2 r3 u4, or nothing
    tick-election I                         as many ticks as the election timeout has, without its random part
    tick-heartbeat I
    set-randomized-election-timeout I timeout=N
    transfer-leadership from=I to=I         forget-leader I         report-unreachable I J
    stabilize [I …] [log-level=LEVEL]       until nothing moves, only these nodes
    process-ready I …                       one Ready of each
    process-append-thread I …               process-apply-thread I …
    deliver-msgs [I …] [type=MsgX] [drop=(I, …)]
    send-snapshot I J                       puts the newest snapshot in flight
    compact I N                             cuts the log up to and with entry N, and prints what is left
    raft-log I      raft-state      status I
    log-level debug|info|warn|error|fatal|none
    _breakpoint                             does nothing: a place to stop in a debugger

    read-index I DATA                       ours: asks for a read; the answer is a ReadState in some Ready
    restart I                               ours: a crash, and a start with what was written

A command that prints nothing gives `ok`; an error is printed after what the command has printed before it. Several
commands, one in a line, may share one output. propose-conf-change can only be the first of them, and alone.

Follows etcd-io/raft: rafttest/interaction_env_handler.go.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from raft.config import Config
from raft.describe import conf_changes_from_text
from raft.errors import RaftError
from raft.interaction.cluster import Cluster, Recipient, error_text
from raft.interaction.datadriven import Argument, Directive, ScriptError, parse_line
from raft.interaction.output import LEVELS
from raft.kinds import ConfChangeTransition, MessageType, ReadOnlyOption
from raft.raftpb import ConfChange, ConfChangeV2, ConfState, Snapshot, SnapshotMetadata
from raft.storage import MemoryStorage
from raft.util import NO_LIMIT

__all__ = ["COMMANDS", "Interaction"]

_BOOLEANS: Final = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_MESSAGE_TYPES: Final = {str(kind): kind for kind in MessageType}
_READ_ONLY: Final = {"safe": ReadOnlyOption.SAFE, "lease-based": ReadOnlyOption.LEASE_BASED}
_TRANSITIONS: Final = {
    "auto": ConfChangeTransition.AUTO,
    "implicit": ConfChangeTransition.JOINT_IMPLICIT,
    "explicit": ConfChangeTransition.JOINT_EXPLICIT,
}
_SWITCHES: Final = {
    "prevote": "pre_vote",
    "checkquorum": "check_quorum",
    "async-storage-writes": "async_storage_writes",
    "disable-conf-change-validation": "disable_conf_change_validation",
    "step-down-on-removal": "step_down_on_removal",
}
_LIMITS: Final = {
    "inflight": "max_inflight_msgs",
    "max-committed-size-per-ready": "max_committed_size_per_ready",
    "max-size-per-msg": "max_size_per_msg",
}


class _Request:
    """One directive, and what its arguments mean; whatever they don't mean is a `ScriptError`."""

    def __init__(self, directive: Directive, cluster: Cluster) -> None:
        self.directive = directive
        self.cluster = cluster

    def refuse(self, why: str) -> ScriptError:
        return ScriptError(f"{self.directive.where}: {self.directive.command}: {why}")

    @property
    def named(self) -> list[Argument]:
        return [argument for argument in self.directive.arguments if argument.values]

    @property
    def words(self) -> list[str]:
        return [argument.key for argument in self.directive.arguments if not argument.values]

    def word(self, place: int, what: str) -> str:
        if len(self.words) <= place:
            raise self.refuse(f"needs {what}")
        return self.words[place]

    def number(self, text: str, what: str = "a number") -> int:
        if not (text.isascii() and text.isdigit()):
            raise self.refuse(f"expected {what}, found {text!r}")
        return int(text)

    def boolean(self, text: str) -> bool:
        if text.lower() not in _BOOLEANS:
            raise self.refuse(f"expected true or false, found {text!r}")
        return _BOOLEANS[text.lower()]

    def node(self, text: str) -> int:
        node_id = self.number(text, "the number of a node")
        if node_id not in self.cluster.nodes:
            raise self.refuse(f"there is no node {node_id}; there are {len(self.cluster.nodes)}")
        return node_id

    def first_node(self) -> int:
        return self.node(self.word(0, "the number of a node"))

    def nodes(self) -> list[int]:
        return [self.node(word) for word in self.words]

    def value(self, key: str) -> str:
        for argument in self.named:
            if argument.key == key:
                return argument.values[0]
        raise self.refuse(f"needs {key}=")


def _breakpoint(request: _Request) -> None:
    """A line to stop at."""


def _add_nodes(request: _Request) -> None:
    cluster = request.cluster
    config = Config(
        id=1,
        election_tick=3,
        heartbeat_tick=1,
        storage=MemoryStorage(),
        rng=cluster.rng,
        max_size_per_msg=NO_LIMIT,
        max_inflight_msgs=(1 << 31) - 1,
    )
    metadata, data = SnapshotMetadata(), b""
    for argument in request.named:
        key, value = argument.key, argument.values[0]
        if key in ("voters", "learners"):
            ids = tuple(request.number(word) for word in argument.values)
            old = metadata.conf_state
            members = ConfState(ids, old.learners) if key == "voters" else ConfState(old.voters, ids)
            metadata = replace(metadata, conf_state=members)
        elif key == "index":
            config.applied = request.number(value)
            metadata = replace(metadata, index=config.applied)
        elif key == "content":
            data = value.encode()
        elif key in _SWITCHES:
            setattr(config, _SWITCHES[key], request.boolean(value))
        elif key in _LIMITS:
            setattr(config, _LIMITS[key], request.number(value))
        elif key == "read-only":
            if value not in _READ_ONLY:
                raise ValueError(f'invalid read-only option "{value}"')
            config.read_only_option = _READ_ONLY[value]
        else:
            raise request.refuse(f"knows no option {key}=")
    cluster.add_nodes(request.number(request.word(0, "how many nodes")), config, Snapshot(metadata, data))


def _campaign(request: _Request) -> None:
    request.cluster.nodes[request.first_node()].raw_node.campaign()


def _propose(request: _Request) -> None:
    raw_node = request.cluster.nodes[request.first_node()].raw_node
    raw_node.propose(request.word(1, "the data to propose").encode())


def _propose_conf_change(request: _Request) -> None:
    raw_node = request.cluster.nodes[request.first_node()].raw_node
    v1, transition = False, ConfChangeTransition.AUTO
    for argument in request.named:
        value = argument.values[0]
        if argument.key == "v1":
            v1 = request.boolean(value)
        elif argument.key == "transition":
            if value not in _TRANSITIONS:
                raise ValueError(f"unknown transition {value}")
            transition = _TRANSITIONS[value]
        else:
            raise request.refuse(f"knows no option {argument.key}=")
    changes = conf_changes_from_text(request.directive.given)
    if not v1:
        raw_node.propose_conf_change(ConfChangeV2(transition, changes))
    elif len(changes) != 1 or transition != ConfChangeTransition.AUTO:
        raise ValueError("v1 conf change can only have one operation and no transition")
    else:
        raw_node.propose_conf_change(ConfChange(changes[0].type, changes[0].node_id))


def _read_index(request: _Request) -> None:
    raw_node = request.cluster.nodes[request.first_node()].raw_node
    raw_node.read_index(request.word(1, "the data that names the read").encode())


def _restart(request: _Request) -> None:
    request.cluster.restart(request.first_node())


def _tick_election(request: _Request) -> None:
    node = request.cluster.nodes[request.first_node()]
    for _ in range(node.config.election_tick):
        node.raw_node.tick()


def _tick_heartbeat(request: _Request) -> None:
    node = request.cluster.nodes[request.first_node()]
    for _ in range(node.config.heartbeat_tick):
        node.raw_node.tick()


def _set_randomized_election_timeout(request: _Request) -> None:
    raw_node = request.cluster.nodes[request.first_node()].raw_node
    raw_node.raft.randomized_election_timeout = request.number(request.value("timeout"))


def _transfer_leadership(request: _Request) -> None:
    leader, transferee = request.node(request.value("from")), request.node(request.value("to"))
    request.cluster.nodes[leader].raw_node.transfer_leadership(transferee)


def _forget_leader(request: _Request) -> None:
    request.cluster.nodes[request.first_node()].raw_node.forget_leader()


def _report_unreachable(request: _Request) -> None:
    nodes = request.nodes()
    if len(nodes) != 2:
        raise ValueError("must specify exactly two node indexes: node on which to report, and reported node")
    request.cluster.nodes[nodes[0]].raw_node.report_unreachable(nodes[1])


def _stabilize(request: _Request) -> None:
    output = request.cluster.output
    level = output.level
    try:
        for argument in request.named:
            if argument.key != "log-level":
                raise request.refuse(f"knows no option {argument.key}=")
            output.set_level(argument.values[0])
        request.cluster.stabilize(request.nodes())
    finally:
        output.level = level


def _each(request: _Request, what: str, step: Callable[[int], None]) -> None:
    """One step of each node that is named; with a heading if there are several."""
    nodes = request.nodes()
    for node_id in nodes:
        if len(nodes) == 1:
            step(node_id)
            return
        request.cluster.output.write(f"> {node_id} {what}\n")
        with request.cluster.output.indented():
            step(node_id)


def _process_ready(request: _Request) -> None:
    _each(request, "handling Ready", request.cluster.process_ready)


def _process_append_thread(request: _Request) -> None:
    _each(request, "processing append thread", request.cluster.process_append_thread)


def _process_apply_thread(request: _Request) -> None:
    _each(request, "processing apply thread", request.cluster.process_apply_thread)


def _deliver_msgs(request: _Request) -> None:
    kind = None
    recipients: list[Recipient] = []
    for argument in request.directive.arguments:
        if not argument.values:
            recipients.append(Recipient(request.node(argument.key)))
        elif argument.key == "drop":
            for value in argument.values:
                # A node to which messages are dropped needn't exist: it may be one that is added later.
                node_id = request.number(value, "the number of a node")
                if any(recipient.id == node_id for recipient in recipients):
                    raise request.refuse(f"can't both deliver and drop msgs to {node_id}")
                recipients.append(Recipient(node_id, drop=True))
        elif argument.key == "type":
            if argument.values[0] not in _MESSAGE_TYPES:
                raise request.refuse(f"unknown message type {argument.values[0]}")
            kind = _MESSAGE_TYPES[argument.values[0]]
        else:
            raise request.refuse(f"knows no option {argument.key}=")
    if request.cluster.deliver(kind, recipients) == 0:
        request.cluster.output.write("no messages\n")


def _send_snapshot(request: _Request) -> None:
    nodes = request.nodes()
    if len(nodes) != 2:
        raise request.refuse("needs two nodes: the sender and the receiver")
    request.cluster.send_snapshot(*nodes)


def _compact(request: _Request) -> None:
    node_id = request.first_node()
    last = request.number(request.word(1, "the last entry to cut away"), "the last entry to cut away")
    request.cluster.nodes[node_id].storage.compact(last)
    request.cluster.raft_log(node_id)


def _raft_log(request: _Request) -> None:
    request.cluster.raft_log(request.first_node())


def _raft_state(request: _Request) -> None:
    request.cluster.raft_state()


def _status(request: _Request) -> None:
    request.cluster.status(request.first_node())


def _log_level(request: _Request) -> None:
    request.cluster.output.set_level(request.word(0, f"one of {', '.join(LEVELS).lower()}"))


COMMANDS: Final[dict[str, Callable[[_Request], None]]] = {
    "_breakpoint": _breakpoint,
    "add-nodes": _add_nodes,
    "campaign": _campaign,
    "compact": _compact,
    "deliver-msgs": _deliver_msgs,
    "forget-leader": _forget_leader,
    "log-level": _log_level,
    "process-append-thread": _process_append_thread,
    "process-apply-thread": _process_apply_thread,
    "process-ready": _process_ready,
    "propose": _propose,
    "propose-conf-change": _propose_conf_change,
    "raft-log": _raft_log,
    "raft-state": _raft_state,
    "read-index": _read_index,
    "report-unreachable": _report_unreachable,
    "restart": _restart,
    "send-snapshot": _send_snapshot,
    "set-randomized-election-timeout": _set_randomized_election_timeout,
    "stabilize": _stabilize,
    "status": _status,
    "tick-election": _tick_election,
    "tick-heartbeat": _tick_heartbeat,
    "transfer-leadership": _transfer_leadership,
}
"""What a script may say; the module's docstring has the arguments."""


class Interaction:
    """Runs the directives of one script, one after the other, on one cluster."""

    def __init__(self, rng: random.Random) -> None:
        self.cluster = self.new_cluster(rng)

    def new_cluster(self, rng: random.Random) -> Cluster:
        """The cluster on which the script runs."""
        return Cluster(rng)

    def run(self, directive: Directive) -> str:
        """What the commands print. Raises `ScriptError` if there is no such command, or its arguments mean nothing.

        Errors are printed even where everything else is silent. That of the first command ends the directive, and so
        does any in silence, where the next one's output couldn't be told from it.
        """
        text = ""
        for place, command in enumerate(_commands(directive)):
            error = self.run_one(command)
            text += self.cluster.output.take() + error
            if error and (place == 0 or self.cluster.output.silent):
                break
        return text or "ok"

    def run_one(self, directive: Directive) -> str:
        """Runs one command; gives back the error that it ended with, or nothing."""
        handler = COMMANDS.get(directive.command)
        if handler is None:
            raise ScriptError(
                f"{directive.where}: unknown command {directive.command!r}; there are {', '.join(COMMANDS)}"
            )
        try:
            handler(_Request(directive, self.cluster))
        except ScriptError:
            raise
        except (RaftError, ValueError) as caught:
            return error_text(caught)
        return ""


def _commands(directive: Directive) -> list[Directive]:
    """The directive's command, and those in the lines below it; only propose-conf-change has input of its own there."""
    if directive.command == "propose-conf-change":
        return [directive]
    commands = [directive]
    for line in directive.given.splitlines():
        command, arguments = parse_line(line.strip(), directive.where)
        commands.append(replace(directive, command=command, arguments=arguments, given=""))
    return commands
