"""Fixtures that several test files of the server use: two nodes' transports; a front end before a node that is none;
what all nodes say."""

import logging
import threading

import pytest

from tests.server.fake_node import FakeNode, Wire, serving, shared_loop
from tests.server.inbox import Inbox
from tests.server.local_nodes import LocalCluster
from tests.server.transports import free_port, transport_of


@pytest.fixture
def lines():
    """What all nodes say."""
    said: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    handler = Handler()
    log = logging.getLogger("metcd")
    log.addHandler(handler)
    yield said
    log.removeHandler(handler)


@pytest.fixture
def peers():
    return {1: ("127.0.0.1", free_port()), 2: ("127.0.0.1", free_port())}


@pytest.fixture(scope="session", params=["plain", "loop"])
def form(request):
    """The loop in which clients and peers are served: None, the plain form, and then one."""
    return None if request.param == "plain" else shared_loop()


@pytest.fixture
def pair(peers, form):
    inboxes = {1: Inbox(), 2: Inbox()}
    transports = {node_id: transport_of(node_id, peers, inboxes[node_id], form) for node_id in peers}
    for transport in transports.values():
        transport.start()
    yield transports, inboxes
    for transport in transports.values():
        transport.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("sender-", "peer-listener"))]


@pytest.fixture
def node(form):
    return FakeNode(form)


@pytest.fixture(scope="session")
def shared_front(form):
    with serving(FakeNode(form)) as front:
        yield front


@pytest.fixture
def front(shared_front, node):
    """One server for all tests that don't look at its life, with a node of its own for each."""
    shared_front.node = node
    return shared_front


@pytest.fixture
def wire(front):
    with Wire(front.address) as wire:
        yield wire


@pytest.fixture(scope="module", params=["plain", "loop"])
def one(request, tmp_path_factory):
    """A node that leads alone, in each form of the server."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "plain":
            patch.setenv("METCD_PLAIN", "1")
        else:
            patch.delenv("METCD_PLAIN", raising=False)
        with LocalCluster(tmp_path_factory.mktemp(f"one-{request.param}"), ["lsm"]) as cluster:
            yield cluster.leader()
