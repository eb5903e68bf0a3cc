"""A node's limit of open files is the system's, not the shell's."""

import resource
import shlex
import subprocess

from server.cluster import metcd_command
from tests.server.gateways import asked
from tests.server.local_nodes import free_ports


def test_a_node_raises_the_limit_of_its_open_files(tmp_path):
    """With 200 of them, a few hundred watchers would leave none for its log."""
    port, peer = free_ports(2)
    words = ["serve", "--id", "1", "--cluster", f"http://127.0.0.1:{peer}", "--port", str(port)]
    serve = shlex.join([*metcd_command(), *words, "--data", str(tmp_path / "data"), "--until-stdin-closes"])
    with subprocess.Popen(
        ["sh", "-c", f"ulimit -Sn 200; exec {serve}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdin is not None and process.stdout is not None
            assert b"serves" in process.stdout.readline()
            told = asked(f"http://127.0.0.1:{port}", "GET", "/_/metrics")[2]
            assert f"\nprocess_max_fds {resource.getrlimit(resource.RLIMIT_NOFILE)[1]}\n".encode() in told
            process.stdin.close()
            assert process.wait(30) == 0
        finally:
            process.kill()
