"""What a node counts, as Prometheus reads it: its own client's parser is the judge (promtool is, in tests/interop)."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.health import Contact
from server.http import FrontEnd
from server.metrics import Histogram, describe, described, labelled, render
from tests.server.fake_node import Wire
from tests.server.local_nodes import LocalCluster, eventually

IMPORTED = time.time()
README = Path(__file__).parents[2] / "README.md"


def _families(text: str):
    return {family.name: family for family in text_string_to_metric_families(text)}


def _value(families, name, **labels):
    for family in families.values():
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    raise KeyError(f"{name}{labels}")


def _scrape(wire: Wire):
    status, headers, body = wire.ask("GET", "/_/metrics")
    assert status == 200 and headers["content-type"] == "text/plain; version=0.0.4"
    return _families(body.decode())


# ---- the words ------------------------------------------------------------------------------------------------------


def test_a_counter_a_gauge_and_labels_become_lines():
    text = render([{"term": 3, "reads_total": 7}, {labelled("peer_connected", peer='a"b\\c\nd'): 1, "reads_total": 8}])
    assert text.decode().splitlines() == [
        "# HELP metcd_peer_connected " + described()["peer_connected"],
        "# TYPE metcd_peer_connected gauge",
        'metcd_peer_connected{peer="a\\"b\\\\c\\nd"} 1',
        "# HELP metcd_reads_total " + described()["reads_total"],
        "# TYPE metcd_reads_total counter",
        "metcd_reads_total 8",
        "# HELP metcd_term " + described()["term"],
        "# TYPE metcd_term gauge",
        "metcd_term 3",
    ]
    assert _value(_families(text.decode()), "metcd_peer_connected", peer='a"b\\c\nd') == 1


def test_a_histogram_has_cumulative_buckets_a_sum_and_a_count():
    times = Histogram((0.5, 1.0))
    for value in (0.25, 0.5, 0.75, 2.0):
        times.observe(value)
    families = _families(render([{labelled("http_request_duration_seconds", call="get"): times}]).decode())
    assert families["metcd_http_request_duration_seconds"].type == "histogram"
    buckets = {bound: _value(families, "metcd_http_request_duration_seconds_bucket", call="get", le=bound) for bound in ("0.5", "1.0", "+Inf")}  # fmt: skip
    assert buckets == {"0.5": 2, "1.0": 3, "+Inf": 4}, "a value on a bound is below it"
    assert _value(families, "metcd_http_request_duration_seconds_sum", call="get") == 3.5
    assert _value(families, "metcd_http_request_duration_seconds_count", call="get") == times.count == 4


def test_histograms_add_up():
    one, other = Histogram((1.0,)), Histogram((1.0,))
    one.observe(0.5)
    other.observe(0.5)
    other.observe(2.0)
    one.add(other)
    assert (one.count, one.total, other.count) == (3, 3.0, 2)
    assert next(iter(one.samples())) == ("_bucket", 'le="1.0"', 2)


@pytest.mark.parametrize("texts", [{"Term": "x"}, {"term": "Something else."}, {"new_one": ""}, {"metcd-x": "y"}])
def test_a_name_is_described_once_and_by_the_rules(texts):
    with pytest.raises(ValueError, match="no name of a metric"):
        describe(texts)


# ---- a whole node ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scraped(tmp_path_factory):
    """Three nodes after a few requests; what node 1's front end and the leader's say."""
    with LocalCluster(tmp_path_factory.mktemp("metrics")) as cluster:
        leader = cluster.leader()
        front = FrontEnd(leader, ("127.0.0.1", 0))
        front.start()
        try:
            with Wire(front.address) as wire:
                for number in range(20):
                    assert wire.ask("PUT", f"/key{number}", b"value")[0] == 204
                assert wire.ask("GET", "/key1")[0] == 200
                assert wire.ask("GET", "/absent")[0] == 404
                before = _scrape(wire)
            # a connection that has ended is still counted
            eventually("the connection has ended", lambda: not front.threads)
            with Wire(front.address) as wire:
                yield before, _scrape(wire), wire.ask("GET", "/_/metrics")[2].decode()
        finally:
            front.stop()


def test_every_metric_is_described_and_named_by_the_rules(scraped):
    _, families, text = scraped
    for name, family in families.items():
        assert name.startswith(("metcd_", "process_")) and family.documentation != "Not described.", name
        assert family.documentation.endswith("."), f"{name}: a sentence"
        if family.type == "histogram":
            assert name.endswith("_seconds"), name
        assert not name.endswith(("_ms", "_us", "_kb", "_mb", "_ns")), name
    assert Counter(line for line in text.splitlines() if line.startswith("# TYPE")).most_common(1)[0][1] == 1


def test_the_metrics_that_the_readme_names_are_there(scraped):
    _, families, _ = scraped
    said = {sample.name for family in families.values() for sample in family.samples}
    named = set(re.findall(r"\bmetcd_[a-z_]+", README.read_text("utf-8")))
    assert len(named) >= 5 and named <= said, named - said


def test_what_a_leader_did_is_counted(scraped):
    _, families, _ = scraped
    assert _value(families, "metcd_is_leader") == 1
    assert _value(families, "metcd_term") >= 1
    assert _value(families, "metcd_leader_changes_total") >= 1
    assert _value(families, "metcd_proposals_total") >= 20
    assert _value(families, "metcd_applied_index") == _value(families, "metcd_commit_index") >= 20
    assert _value(families, "metcd_http_answers_total", status="204") == 20
    for call, count in (("put", 20), ("get", 2)):
        assert _value(families, "metcd_http_request_duration_seconds_count", call=call) == count
    for name in ("wal_fsync", "commit", "apply"):
        count = _value(families, f"metcd_{name}_duration_seconds_count")
        assert 10 <= count <= 200, f"{name}: {count} samples for 20 writes one after the other"
        assert 0 < _value(families, f"metcd_{name}_duration_seconds_sum") < 60
    assert _value(families, "metcd_engine_user_bytes_total") > 20 * 10
    peers = {s.labels["peer"] for s in families["metcd_peer_sent_bytes"].samples}
    assert len(peers) == 2 and all(_value(families, "metcd_peer_sent_bytes_total", peer=peer) > 500 for peer in peers)
    assert all(_value(families, "metcd_peer_received_bytes_total", peer=peer) > 500 for peer in peers)


def test_counters_never_go_back(scraped):
    before, after, _ = scraped
    for name, family in before.items():
        if family.type in ("counter", "histogram"):
            for sample in family.samples:
                assert _value(after, sample.name, **sample.labels) >= sample.value, f"{name}: {sample}"


def test_the_process_is_described_as_prometheus_does_it(scraped):
    _, families, _ = scraped
    assert _value(families, "process_start_time_seconds") <= IMPORTED + 1
    assert _value(families, "process_resident_memory_bytes") > 1 << 20
    assert 3 < _value(families, "process_open_fds") < _value(families, "process_max_fds")
    (build,) = families["metcd_build_info"].samples
    assert build.value == 1 and build.labels.keys() == {"version", "python", "engine", "plain"}


def test_the_start_is_that_of_the_process():
    asks = "from server.node_metrics import process_metrics; print(process_metrics()['process_start_time_seconds'])"
    before = time.time()
    said = float(subprocess.run([sys.executable, "-c", asks], capture_output=True, check=True, text=True).stdout)
    assert before - 2 < said < time.time() + 2, "the kernel's boot time is in whole seconds"


def test_elections_and_leaders_are_counted():
    contact = Contact(1, {1: ("h", 1), 2: ("h", 2)}, 1.0, 0.0)
    for role, leader, term in [
        ("pre_candidate", 0, 0), ("candidate", 0, 1), ("leader", 1, 1),  # one election
        ("follower", 0, 2), ("follower", 2, 2), ("follower", 2, 2),  # another one's
        ("candidate", 0, 3), ("candidate", 0, 4), ("follower", 2, 5),  # two, both lost
    ]:  # fmt: skip
        contact.became(role, leader, term, 1.0)
    assert contact.metrics() == {"elections_total": 3, "leader_changes_total": 3}


def test_a_histogram_may_be_read_while_it_is_written():
    times, stop = Histogram(), threading.Event()

    def write():
        while not stop.is_set():
            times.observe(0.001)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(200):
            samples = list(times.samples())
            assert samples[-1][2] == samples[-3][2], "the count is the last bucket's, whatever comes meanwhile"
    finally:
        stop.set()
        thread.join()
