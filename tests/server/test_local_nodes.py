"""The ports of tests: two runs on one machine don't take each other's."""

import subprocess
import sys

from tests.server.local_nodes import CLUSTER_PORTS, FREE_PORTS, cluster_port, free_ports

ASKS = "from tests.server.local_nodes import cluster_port, free_ports; print(*free_ports(1), cluster_port()); input()"


def test_two_processes_have_ports_of_their_own() -> None:
    """For as long as both live, whichever of their ports are in use."""
    ours = free_ports(1)[0], cluster_port()
    others = [
        subprocess.Popen([sys.executable, "-c", ASKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)
    ]
    found = [ours]
    for other in others:
        assert other.stdout is not None
        found.append(tuple(map(int, other.stdout.readline().split())))
    for other in others:
        other.communicate(b"\n")
        assert other.returncode == 0
    assert len({port // FREE_PORTS for port, _ in found}) == 3
    assert len({(port - 10_000) // CLUSTER_PORTS for _, port in found}) == 3


def test_a_process_may_ask_for_more_ports_than_it_has() -> None:
    """They come again, without those that are in use."""
    assert len(free_ports(2 * FREE_PORTS)) == 2 * FREE_PORTS
