"""The lab of a real cluster: three processes that are cut off, paused, killed, started and slowed down, and none is left."""

import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from server.client import Client
from server.cluster import LocalCluster, metcd_command
from server.errors import NodeError
from server.lab import Lab
from server.request import BadRequest
from tests.server.local_nodes import PATIENCE_S, cluster_port, eventually
from tests.server.test_lab_port import ask


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """At the end, a paused node goes on, so that all stop cleanly."""
    said = []
    with LocalCluster(["memory"] * 3, str(tmp_path_factory.mktemp("lab")), cluster_port()) as cluster:
        cluster.say = said.append
        with Lab(cluster, 1) as lab:
            lab.say = said.append
            cluster.start()
            cluster.wait_until_healthy()
            lab.said = said
            yield cluster, lab
            processes = [cluster.processes[node_id] for node_id in (1, 2, 3)]
            lab.pause(2)
        with pytest.raises(BadRequest, match="The cluster stops"):
            lab.pause(1)
    assert [process.returncode for process in processes] == [0, 0, 0], said[-20:]


@pytest.fixture
def cluster(started):
    return started[0]


@pytest.fixture
def lab(started):
    """The lab of the one cluster, which is whole before each test."""
    cluster, lab = started
    state = lab.state()
    for link in state["cut"]:
        lab.cut(*link, cut=False, one_way=True)
    for node_id, node in state["nodes"].items():
        if node["process"] == "paused":
            lab.resume(int(node_id))
        elif node["process"] == "dead":
            lab.start(int(node_id))
        if node["sync_delay_s"]:
            lab.slow_disk(int(node_id), 0.0)
    cluster.wait_until_healthy()
    return lab


def status(cluster, node_id):
    """What a node says of itself; {} if it doesn't answer."""
    try:
        with Client([cluster.nodes[node_id - 1].url], timeout_s=1.0) as client:
            return client.status()
    except NodeError:
        return {}


def leader(cluster, *among):
    """The id of the node that these nodes, by default all, agree to lead."""

    def agreed():
        leaders = {status(cluster, node_id).get("leader", 0) for node_id in among or (1, 2, 3)}
        return leaders.pop() if len(leaders) == 1 else 0

    return eventually("the nodes agree on a leader", agreed)


def others(node_id):
    return [other for other in (1, 2, 3) if other != node_id]


def put(cluster, node_id, key, value):
    with Client([cluster.nodes[node_id - 1].url], timeout_s=PATIENCE_S) as client:
        client.put(key, value)


def stands_still(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def test_a_leader_whose_links_are_cut_is_replaced_writes_go_on_and_it_catches_up(cluster, lab):
    old = leader(cluster)
    for other in others(old):
        lab.cut(old, other, cut=True, one_way=False)
    assert lab.state()["cut"] == sorted(
        [*([old, other] for other in others(old)), *([other, old] for other in others(old))]
    )
    new = eventually("another one leads", lambda: (found := leader(cluster, *others(old))) != old and found)
    put(cluster, new, b"during", b"the cut")
    with Client([cluster.nodes[old - 1].url], timeout_s=1.0) as client:
        assert client.get(b"during", consistency="stale") is None
        for other in others(old):
            lab.cut(other, old, cut=False, one_way=False)
        assert lab.state()["cut"] == []
        eventually("the healed node catches up", lambda: client.get(b"during", consistency="stale") == b"the cut")
    assert f"lab: the link {old} ↔ {others(old)[0]} is cut" in lab.said


def test_a_node_that_is_killed_and_started_begins_with_its_links_cut(cluster, lab):
    """It must not be heard before it is told: so it waits for that."""
    victim = others(leader(cluster))[0]
    term = status(cluster, victim)["term"]
    for other in others(victim):
        lab.cut(victim, other, cut=True, one_way=False)
    before = cluster.processes[victim].pid
    lab.kill(victim)
    assert lab.process_of(victim) == "dead" and status(cluster, victim) == {}
    assert victim not in [node.id for node in cluster.dead()], "nobody is told of it as of an accident"
    lab.start(victim)
    assert cluster.processes[victim].pid != before
    eventually("it asks for votes that nobody hears", lambda: status(cluster, victim).get("role") == "pre-candidate")
    assert leader(cluster, *others(victim)) and status(cluster, others(victim)[0])["term"] == term
    assert not any(status(cluster, victim)["connected"].values())


def test_a_link_that_is_cut_one_way_carries_the_other_way(cluster, lab):
    """A follower that can't be heard, and hears: the leader goes on, because two of three answer it."""
    old = leader(cluster)
    follower, third = others(old)
    lab.cut(follower, old, cut=True, one_way=True)
    assert lab.state()["cut"] == [[follower, old]]
    eventually("it can't be heard", lambda: status(cluster, follower).get("connected", {}).get(str(old)) is False)
    put(cluster, old, b"one way", b"v")
    with Client([cluster.nodes[third - 1].url]) as client:
        assert client.get(b"one way") == b"v"
    assert status(cluster, old)["connected"][str(follower)]


def test_a_paused_node_stands_still_and_is_told_before_it_goes_on(cluster, lab):
    victim = leader(cluster)
    pid = cluster.processes[victim].pid
    lab.pause(victim)
    eventually("it stands still", lambda: stands_still(pid))
    assert lab.process_of(victim) == "paused"
    new = eventually("another one leads", lambda: (found := leader(cluster, *others(victim))) != victim and found)
    for number in range(1000):  # more than its pipe holds
        lab.slow_disk(victim, number / 1000)
    lab.slow_disk(victim, 0.2)
    put(cluster, new, b"during", b"the pause")
    lab.resume(victim)
    assert lab.process_of(victim) == "running" and cluster.processes[victim].pid == pid
    with Client([cluster.nodes[victim - 1].url], timeout_s=1.0) as client:

        def caught_up():
            try:
                return client.get(b"during", consistency="stale") == b"the pause"
            except NodeError:
                return False

        eventually("it goes on", caught_up)
    begun = time.monotonic()
    put(cluster, victim, b"after", b"the pause")  # it has to be on this node's disk to be applied here
    assert time.monotonic() - begun >= 0.2


def test_a_slow_disk_shows_in_how_long_a_write_takes(cluster, lab):
    leader(cluster)
    for node_id in (1, 2, 3):
        lab.slow_disk(node_id, 0.2)
    put(cluster, 1, b"slow", b"0")  # the nodes have read it by the end of this one's first sync at the latest
    begun = time.monotonic()
    put(cluster, 1, b"slow", b"1")
    assert time.monotonic() - begun >= 0.2
    assert [node["sync_delay_s"] for node in lab.state()["nodes"].values()] == [0.2] * 3


def test_the_leadership_goes_where_it_is_sent_and_a_leader_gives_it_up(cluster, lab):
    target = others(leader(cluster))[1]
    lab.transfer(target)
    assert leader(cluster) == target
    term = status(cluster, target)["term"]
    lab.do(target, "step_down")
    eventually("there is another election", lambda: leader(cluster) and status(cluster, target)["term"] > term)
    lab.do(1, "compact")
    lab.do(1, "campaign")


def test_what_cannot_be_done_now_is_refused_with_a_sentence(cluster, lab):
    for call, expected, wording in [
        (lambda: lab.pause(4), 404, "There is no node 4: this cluster has the nodes 1 to 3."),
        (lambda: lab.cut(1, 4, cut=True, one_way=False), 404, "There is no node 4"),
        (lambda: lab.cut(1, 1, cut=True, one_way=False), 400, "A link is between two nodes."),
        (lambda: lab.slow_disk(0, 0.1), 404, "There is no node 0"),
        (lambda: lab.transfer(9), 404, "There is no node 9"),
        (lambda: lab.resume(1), 409, "Node 1 is running, and this is for one that is paused."),
        (lambda: lab.start(1), 409, "Node 1 is running, and this is for one that is dead."),
    ]:
        with pytest.raises(BadRequest) as refused:
            call()
        assert refused.value.status == expected and refused.value.sentence.startswith(wording)
    lab.kill(3)
    for refused_call in (lab.pause, lab.resume, lab.kill, lab.transfer, lambda node_id: lab.do(node_id, "compact")):
        with pytest.raises(BadRequest, match="Node 3 is dead"):
            refused_call(3)
    lab.cut(1, 3, cut=True, one_way=False)  # it will be told when it starts
    with subprocess.Popen(
        cluster.command(cluster.nodes[2]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as by_hand:
        try:
            eventually("node 3 is brought back by hand", lambda: status(cluster, 3))
            with pytest.raises(BadRequest, match=f"Node 3 can't be started: port .* process {by_hand.pid} .*"):
                lab.start(3)
        finally:
            by_hand.kill()


def test_a_node_that_something_else_has_stopped_holds_nobody_up(cluster, lab):
    pid = cluster.processes[2].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(BadRequest, match="Node 2 doesn't listen"):
            for _ in range(10_000):
                lab.do(2, "campaign")
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_node_that_ends_by_itself_can_be_started(cluster, lab):
    cluster.processes[1].send_signal(signal.SIGTERM)
    eventually("it has ended", lambda: lab.process_of(1) == "dead")
    lab.start(1)
    eventually("it is back", lambda: status(cluster, 1))


def test_a_node_takes_part_when_it_has_been_told_and_not_before(tmp_path):
    """A line that is none changes nothing of that."""
    port, peer = cluster_port(), cluster_port()
    words = [
        "serve",
        "--id",
        "1",
        "--cluster",
        f"http://127.0.0.1:{peer}",
        "--port",
        str(port),
        "--data",
        str(tmp_path),
    ]
    with subprocess.Popen(
        [*metcd_command(), *words, "--lab", "http://127.0.0.1:1", "--until-stdin-closes"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        process.stdin.write(b"what?\n" * 300)
        process.stdin.flush()
        said = []
        while sum(b"a line of the lab is passed over" in line for line in said) < 300:  # time enough to begin
            said.append(process.stdout.readline())
        assert not any(b"serves" in line for line in said)
        process.stdin.write(b"{}\n")
        process.stdin.flush()
        assert b"serves" in process.stdout.readline()
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0


def processes_with(word):
    """The command lines and environments of the processes of this machine in which the word stands, by pid."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            ended = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if word.encode() in text and not ended:
            found[int(entry.name)] = text.replace(b"\0", b" ").decode(errors="replace")
    return found


def test_the_command_prints_the_token_once_and_a_kill_leaves_no_process_behind_not_a_paused_one_either(tmp_path):
    data, port = str(tmp_path / "data"), cluster_port()
    words = ["cluster", "--lab", "--data", data, "--port", str(port), "--engines", "memory", "--nodes", "3"]
    lines = []
    with subprocess.Popen(
        [*metcd_command(), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True)
        reader.start()
        try:
            pattern = rf"http://127\.0\.0\.1:{port}/_/page#lab=http://127\.0\.0\.1:{port - 1}&token=(\S+)$"
            token = eventually("the address is printed", lambda: re.search(pattern, "".join(lines), re.MULTILINE))[1]
            address, bearer = ("127.0.0.1", port - 1), [("Authorization", f"Bearer {token}")]
            for path in ("nodes/2/pause", "nodes/3/kill"):
                assert ask(address, "POST", f"/_/lab/{path}", bearer)[0] == 200
            assert ask(("127.0.0.1", port), "GET", "/_/lab", bearer)[0] == 404, "a node of a lab serves none of it"
            assert not processes_with(token)
            assert len(processes_with(data)) >= 3, "the cluster and two nodes"
        finally:
            process.kill()
        eventually("nothing is left", lambda: not processes_with(data))
        process.wait()
        reader.join(PATIENCE_S)
    text = "".join(lines)
    assert text.count(token) == 1
    assert "lab: node 3 is killed" in text and "node 3 has ended" not in text
    for file in Path(data).rglob("*"):
        assert not file.is_file() or token.encode() not in file.read_bytes()
