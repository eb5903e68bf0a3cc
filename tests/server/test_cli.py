"""The `metcd` command: what each verb prints and returns, and that bad input is answered in one line with status 2."""

import argparse
import base64
import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from server import verbs
from server.changes import MOVE, Wish
from server.cli import MODULES, main
from server.cluster import ClusterError, metcd_command
from server.config import NodeConfig
from server.errors import NoLeader, OutcomeUnknown
from server.identity import read_identity
from server.node import Node
from server.transport import SecretMissing
from server.verbs import dataset, nodes
from tests.server.fake_node import FakeNode, serving
from tests.server.local_nodes import eventually, free_ports


@pytest.fixture
def node():
    return FakeNode()


@pytest.fixture(scope="module")
def shared_front():
    with serving(FakeNode()) as front:
        yield front


@pytest.fixture
def metcd(shared_front, node, capsysbinary):
    """Runs a verb against the fake node: (exit status, standard output, standard error)."""
    shared_front.node = node
    url = "http://{}:{}".format(*shared_front.address)

    def run(*words, timeout="5"):
        status = main([*words, "--endpoints", url, "--timeout", timeout])
        return status, *capsysbinary.readouterr()

    return run


@pytest.fixture
def refused(capsys):
    """Runs a verb that must be refused with status 2; returns its one line."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*words):
        try:
            assert main(words) == 2
        except SystemExit as exit:  # argparse's way; it prints the usage first
            assert exit.code == 2
            return capsys.readouterr().err.splitlines()[-1]
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert "Traceback" not in err
        return err

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_each_module_of_verbs_adds_those_that_are_listed_for_it():
    """What MODULES leaves out could be typed by nobody, and what it has in the wrong place fails when it is typed."""
    with_verbs = {file.stem for file in Path(verbs.__path__[0]).glob("*.py") if "\ndef add(" in file.read_text("utf-8")}
    assert set(MODULES) == with_verbs
    for module, names in MODULES.items():
        added = []
        importlib.import_module(f"server.verbs.{module}").add(
            lambda name, *_, added=added: added.append(name) or argparse.ArgumentParser()
        )
        assert tuple(added) == names


def test_a_command_imports_what_its_verb_needs_and_no_node():
    script = """
import sys
from server.cli import main
try:
    main(["get", "--help"])
finally:
    print("server.client" in sys.modules, "server.node" in sys.modules, "bench" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ran.stdout.splitlines()[-1] == "True False False", ran.stderr


def test_version(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["--version"])
    assert exit.value.code == 0
    assert re.fullmatch(r"metcd \d+\.\d+\.\d+, Python 3\.\d+\.\d+\n", capsys.readouterr().out)


# ---- as a client ----------------------------------------------------------------------------------------------------


def test_put_get_delete(metcd):
    assert metcd("put", "hello", "wörld") == (0, b"", b"")
    assert metcd("get", "hello") == (0, "wörld".encode(), b"")  # exactly the value: no line end is added to a pipe
    assert metcd("delete", "hello")[0] == 0
    status, out, err = metcd("get", "hello")
    assert (status, out) == (1, b"")
    assert err == b"metcd: there is no key 'hello'\n"


def test_output_that_is_not_utf8_gets_escapes(shared_front, node):
    """A terminal of another encoding, or none (cron): what it doesn't have is escaped, and nothing is cut off."""
    shared_front.node = node
    node._apply([("schlüssel".encode(), "值".encode()), (b"z", b"last")])
    url = "http://{}:{}".format(*shared_front.address)
    command = [*metcd_command(), "scan", "--endpoints", url]
    ran = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"schl\\xfcssel\t\\u503c\nz\tlast\n", b"")


def test_output_that_finds_no_space_is_told_as_output():
    """ "No space left on device" alone leaves open which device."""
    with open("/dev/full", "wb") as full:
        ran = subprocess.run([*metcd_command(), "options", "lsm"], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert ran.returncode == 2
    assert ran.stderr == b"metcd: standard output: [Errno 28] No space left on device\n"


def test_scan_prints_text_or_exact_bytes(metcd, node):
    node._apply([(b"a", b"1"), (b"\xff", b"\x00\n")])
    assert metcd("scan")[1] == b"a\t1\n\\xff\t\x00\n\n"
    assert metcd("scan", "--prefix", "a")[1] == b"a\t1\n"
    assert metcd("scan", "--reverse", "--limit", "1", "--start", "a", "--stop", "b")[1] == b"a\t1\n"
    lines = [json.loads(line) for line in metcd("scan", "--ndjson", "--consistency", "stale")[1].splitlines()]
    assert [base64.b64decode(line["key"]) for line in lines] == [b"a", b"\xff"]
    assert node.barriers[-1] == "stale"


def test_ctrl_c_while_the_command_is_still_being_imported_leaves_no_traceback():
    script = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name == "server.cli":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is born with SIGINT ignored
from server.__main__ import main
sys.exit(main())
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "")


def test_a_signal_may_come_at_any_moment_of_the_wait_for_it():
    """Also while the event's lock is held, and twice: timeout(1) ends a command like that."""
    script = """
import os, signal
from server.verbs.nodes import stop_event
stop = stop_event()
with stop._cond:  # as `wait` has it for a moment
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
assert stop.wait(30)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_a_node_beyond_loopback_needs_the_secret_of_its_cluster(refused, tmp_path):
    words = ["serve", "--id", "1", "--cluster", "http://10.1.2.3:3380", "--data", str(tmp_path / "node1")]
    assert "start all nodes with --peer-secret-file" in refused(*words)
    secret = tmp_path / "secret"
    secret.write_bytes(b"short")
    secret.chmod(0o600)
    assert "16 to 4,096 bytes" in refused(*words, "--peer-secret-file", str(secret))
    secret.write_bytes(b"x" * 40)
    secret.chmod(0o644)
    assert f"chmod 600 {secret}" in refused(*words, "--peer-secret-file", str(secret))
    assert not (tmp_path / "node1").exists()


def test_status_asks_each_node(metcd, shared_front, capsysbinary):
    status, out, _ = metcd("status", "--json")
    assert status == 0
    assert json.loads(out)["id"] == 1
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    well = "http://{}:{}".format(*shared_front.address)
    assert main(["status", "--json", "--endpoints", f"{nobody},{well}", "--timeout", "0.2"]) == 0
    out, err = capsysbinary.readouterr()
    assert json.loads(out)["url"] == well
    assert nobody.encode() in err
    assert main(["status", "--json", "--endpoints", nobody, "--timeout", "0.2"]) == 2
    capsysbinary.readouterr()
    assert main(["status", "--endpoints", f"{nobody},{well}", "--timeout", "0.2"]) == 0
    lines = capsysbinary.readouterr().out.decode().splitlines()
    assert lines[0].split() == ["node", "engine", "role", "leader", "term", "applied", "lag", "disk", "links"]
    assert nobody in lines[1] and "unreachable" in lines[1]
    assert lines[2].split()[0] == "1"
    assert main(["status", "--endpoints", nobody, "--timeout", "0.2"]) == 2


def test_what_scan_prints_load_takes(metcd, node, tmp_path):
    pairs = [(b"%04d" % number, bytes([number % 256]) * (number % 7)) for number in range(1200)]
    node._apply(pairs)
    file = tmp_path / "pairs.ndjson"
    file.write_bytes(metcd("scan", "--ndjson")[1])
    fresh = FakeNode()
    node.machine, node.applied = fresh.machine, 0
    status, out, err = metcd("load", str(file))
    assert (status, out, err) == (0, b"loaded 1,200 pairs\n", b"")
    assert list(node.machine.scan()) == pairs
    assert node.applied == 3  # batches, and not single writes


def test_load_keeps_its_batches_below_the_servers_limit(metcd, node, tmp_path):
    file = tmp_path / "large.ndjson"
    value = base64.b64encode(b"x" * 1_000_000).decode()
    file.write_text("".join(f'{{"key":"{key}","value":"{value}"}}\n' for key in ("YQ==", "Yg==", "Yw==")))
    assert metcd("load", str(file))[0] == 0
    assert [key for key, _ in node.machine.scan()] == [b"a", b"b", b"c"]


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"key":"YQ=="}', b'{"key":"YQ","value":""}', b"\xff", b"[" * 100_000])
def test_load_names_the_line_that_is_none(metcd, node, tmp_path, line):
    file = tmp_path / "bad.ndjson"
    file.write_bytes(b'{"key":"YQ==","value":""}\n' + line + b"\n")
    status, _, err = metcd("load", str(file))
    assert status == 2
    assert b"bad.ndjson, line 2:" in err
    assert err.count(b"\n") == 1


def test_the_names_of_all_unicode_characters_are_in_key_order():
    pairs = dataset.unicode_names()
    assert pairs == sorted(pairs)
    assert dict(pairs)[b"unicode/U+2603"] == b"SNOWMAN"
    if unicodedata.unidata_version == "14.0.0":  # Python 3.11's
        assert len(pairs) == 138_552
        assert sum(len(name) for _, name in pairs) == 3_602_695


@pytest.mark.parametrize("size", [2 << 20, 20 << 20])
def test_load_says_that_a_pair_is_too_large_and_not_that_it_may_be_there(metcd, node, tmp_path, size):
    """The server refuses the body while it is still being sent."""
    file = tmp_path / "pairs.ndjson"
    file.write_text(json.dumps({"key": "YQ==", "value": base64.b64encode(b"y" * size).decode()}) + "\n")
    status, out, err = metcd("load", str(file))
    assert (status, out) == (2, b"")
    assert b"at most 1,572,864 bytes, and this one has" in err
    assert list(node.machine.scan()) == []


def test_load_unicode_goes_on_where_it_was(metcd, node, monkeypatch):
    """Batches are atomic and in the order of the keys, so that the last key there says how far an earlier run got."""
    pairs = dataset.unicode_names()[:3000]
    monkeypatch.setattr(dataset, "unicode_names", lambda: pairs)
    node._apply(pairs[:1700])
    node.applied = 0
    status, out, _ = metcd("load", "unicode")
    assert (status, out) == (0, b"loaded 3,000 pairs\n")
    assert list(node.machine.scan()) == pairs
    assert node.applied == 3  # 1,300 pairs in batches of 500
    assert metcd("load", "unicode")[1] == b"loaded 3,000 pairs\n"
    assert node.applied == 3


def test_load_sends_a_batch_of_unknown_outcome_again(metcd, node, monkeypatch):
    pairs = dataset.unicode_names()[:600]
    monkeypatch.setattr(dataset, "unicode_names", lambda: pairs)
    propose, failures = node.propose, [OutcomeUnknown("once"), OutcomeUnknown("twice"), NoLeader("and a third time")]

    def sometimes(operations):
        index = propose(operations)
        if failures:
            raise failures.pop()
        return index

    node.propose = sometimes
    assert metcd("load", "unicode")[0] == 0
    assert list(node.machine.scan()) == pairs


def test_a_cluster_without_a_leader_is_one_line(metcd, node):
    node.fails = NoLeader("nobody leads")
    assert metcd("put", "k", "v", timeout="0.1") == (2, b"", b"metcd: nobody leads\n")


# ---- bad input ------------------------------------------------------------------------------------------------------


def test_a_member_that_was_moved_beyond_its_machine_needs_the_secret_at_its_next_start(refused, tmp_path):
    """Its first list, which `serve` reads, still has it on this machine; its address book hasn't."""
    peer, clients = free_ports(2)
    node = Node(NodeConfig(1, {1: ("127.0.0.1", peer)}, str(tmp_path / "n"), "btree"))
    node.start()
    try:
        node.change_members(Wish(MOVE, 1, ("10.1.2.3", peer)))
    finally:
        node.stop()
    words = ("serve", "--id", "1", "--port", str(clients), "--engine", "btree", "--data", str(tmp_path / "n"))
    assert "start all nodes with --peer-secret-file" in refused(*words)


def serve(tmp_path, **changes):
    """The words of a `serve` that would work but for `changes`."""
    ports = free_ports(2)
    words = {"id": "1", "cluster": f"http://127.0.0.1:{ports[0]}", "port": str(ports[1]), "data": str(tmp_path / "n")}
    return ["serve", *(part for name, value in {**words, **changes}.items() for part in (f"--{name}", value))]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"engine": "rocks"}, "no engine is called 'rocks'"),
        ({"engine": "no.such.module:Engine"}, "can't be imported"),
        ({"id": "2"}, "--id 2 is not in the cluster"),
        ({"id": "0"}, "--id 0 is not in the cluster"),
        ({"id": "one"}, "invalid int value"),
        ({"cluster": "127.0.0.1:3380"}, "this part is not: '127.0.0.1:3380'"),
        ({"cluster": "http://127.0.0.1"}, "this part is not"),
        ({"cluster": "http://127.0.0.1:99999"}, "this part is not"),
        ({"cluster": "http://a:1,"}, "this part is not: ''"),
        ({"cluster": "http://a:1,http://a:1"}, "twice"),
        ({"port": "70000"}, "a port is a number"),
        ({"port": "x"}, "a port is a number"),
        ({"quota-backend-bytes": "2GB"}, "it is a whole number of bytes, below 2^63, and not '2GB'"),
        ({"quota-backend-bytes": "1.5"}, "it is a whole number of bytes"),
        ({"quota-backend-bytes": str(1 << 63)}, "it is a whole number of bytes"),
        ({"quota-backend-bytes": ""}, "it is a whole number of bytes"),
        ({"listen-peer": "127.0.0.1:1"}, "--listen-peer: a node's URL is http://host:port"),
        ({"listen-peer": "http://10.1.2.3:3380"}, "--peer-secret-file"),
        ({"host": "no.such.host.invalid"}, "no.such.host.invalid"),
        ({"data": "/dev/null/x"}, "/dev/null"),
    ],
)
def test_bad_words_for_serve_are_refused_in_one_line(tmp_path, refused, changes, says):
    assert says in refused(*serve(tmp_path, **changes))


@pytest.mark.parametrize(("told", "quota_bytes"), [([], 0), (["-1"], 0), (["0"], 0), (["2147483648"], 1 << 31)])
def test_a_quota_reaches_each_node(tmp_path, monkeypatch, refused, told, quota_bytes):
    """`cluster` passes on what it is told, and `serve` says it to its node: both are stopped here where they do."""
    passed, configs = [], []

    def cluster(*words):
        passed.extend(words[-1])
        raise ClusterError("as far as this")

    def node(config):
        configs.append(config)
        raise SecretMissing("as far as this")

    monkeypatch.setattr(nodes, "LocalCluster", cluster)
    monkeypatch.setattr(nodes, "Node", node)
    option = ["--quota-backend-bytes", *told] if told else []
    assert "as far as this" in refused("cluster", *option)
    assert len(passed) == len(option)
    assert "as far as this" in refused(*serve(tmp_path), *passed)
    assert [config.quota_bytes for config in configs] == [quota_bytes]


def test_a_taken_port_is_named(tmp_path, refused):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert port in refused(*serve(tmp_path, port=port))
        assert port in refused(*serve(tmp_path, cluster=f"http://127.0.0.1:{port}"))
        assert port in refused(*serve(tmp_path, **{"listen-peer": f"http://127.0.0.1:{port}", "data": f"{tmp_path}/m"}))
        assert port in refused("cluster", "--nodes", "1", "--port", port, "--data", str(tmp_path))


def recorded(directory):
    """A node's directory with one write in it, of a cluster of one."""
    node = Node(NodeConfig(1, {1: ("127.0.0.1", free_ports(1)[0])}, str(directory), tick_s=0.01))
    node.start()
    eventually("it leads", lambda: node.health().healthy)
    node.propose([(b"key", b"a value that can be found in the log")])
    return node


def test_a_second_process_on_a_directory_is_told_who_has_it(tmp_path, refused):
    node = recorded(tmp_path / "n")
    try:
        assert "locked by this process" in refused(*serve(tmp_path))
        assert "locked by this process" in refused("check", str(tmp_path / "n"))
    finally:
        node.stop()


def test_a_damaged_log_is_named_with_file_and_offset(tmp_path, refused, capsys):
    recorded(tmp_path / "n").stop()
    assert main(["check", str(tmp_path / "n")]) == 0
    assert main(["dump", str(tmp_path / "n")]) == 0
    assert "HardState(term=1, vote=1" in capsys.readouterr().out
    log = next((tmp_path / "n" / "wal").glob("*.wal"))
    data = bytearray(log.read_bytes())
    data[data.index(b"found in the log") - 60] ^= 1  # not in the last record, which a crash may tear
    data[20] ^= 1
    log.write_bytes(data)
    [address] = read_identity(str(tmp_path / "n")).members.values()
    line = refused(*serve(tmp_path, cluster=f"http://{address}"))
    assert log.name in line
    assert " at byte " in line
    assert main(["check", str(tmp_path / "n")]) == 1
    assert log.name in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["cluster", "--nodes", "0"], "1 to 6 nodes"),
        (["cluster", "--nodes", "7"], "1 to 6 nodes"),
        (["cluster", "--engines", "memory,rocks"], "no engine is called 'rocks'"),
        (["cluster", "--port", "60000"], "peer port would be 80001"),
        (["check", "/nowhere"], "nothing at /nowhere"),
        (["dump", "/nowhere"], "nothing at /nowhere"),
        (["get", "k", "--endpoints", "localhost"], "--endpoints"),
        (["load", "/nowhere", "--endpoints", "http://127.0.0.1:1"], "/nowhere"),
        (["get"], "required: key"),
        (["frobnicate"], "invalid choice"),
        ([], "required"),
    ],
)
def test_bad_words_are_refused_in_one_line(refused, words, says):
    assert says in refused(*words)
