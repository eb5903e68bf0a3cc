"""The shared secret: a file that is only its owner's, and proofs that are good for one connection and one purpose."""

import os
import stat
import threading

import pytest

from server.secret import Exchange, SecretError, draw_secret, is_nonce, read_secret, same

SECRET = b"0123456789abcdef"


def test_a_drawn_secret_is_its_owners_alone_and_stays(tmp_path):
    path = str(tmp_path / "secret")
    draw_secret(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    secret = read_secret(path)
    assert len(secret) == 64
    draw_secret(path)
    assert read_secret(path) == secret
    assert os.listdir(tmp_path) == ["secret"]


def test_many_that_draw_at_once_end_with_one(tmp_path):
    path = str(tmp_path / "secret")
    found = []
    threads = [threading.Thread(target=lambda: (draw_secret(path), found.append(read_secret(path)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (b"x" * 32, 0o644, "mode 0644.*chmod 600"),
        (b"x" * 32, 0o620, "mode 0620"),
        (b"x" * 15, 0o600, "has 15"),
        (b" \n" * 40, 0o600, "has 0"),
        (b"x" * 5000, 0o600, "16 to 4,096 bytes"),
        (None, 0o700, "in a file"),
    ],
)
def test_a_file_that_others_may_read_or_that_is_too_short_is_refused_with_what_to_do(tmp_path, content, mode, why):
    path = tmp_path / "secret"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(SecretError, match=why):
        read_secret(str(path))


def test_a_pipe_that_nobody_writes_to_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "secret", 0o600)
    with pytest.raises(SecretError, match="in a file"):
        read_secret(str(tmp_path / "secret"))


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(SecretError, match=r"can't be read from .*secret: No such file"):
        read_secret(str(tmp_path / "secret"))


def test_both_sides_come_to_the_same_proofs_and_no_other_does():
    ours, theirs = Exchange(SECRET, 1, 2), Exchange(SECRET, 1, 2)
    a, b = ours.ours, theirs.ours
    assert is_nonce(a)
    assert a != b
    assert same(ours.answers(a, b), theirs.answers(a, b))
    assert same(ours.calls(a, b, "/raft/stream", "c1"), theirs.calls(a, b, "/raft/stream", "c1"))
    proof = ours.calls(a, b, "/raft/stream", "c1")
    others = [
        ours.answers(a, b),
        ours.calls(b, a, "/raft/stream", "c1"),
        ours.calls(a, Exchange(SECRET, 1, 2).ours, "/raft/stream", "c1"),
        ours.calls(a, b, "/raft/snapshot", "c1"),
        ours.calls(a, b, "/raft/stream", "c2"),
        Exchange(SECRET, 2, 1).calls(a, b, "/raft/stream", "c1"),
        Exchange(SECRET, 1, 3).calls(a, b, "/raft/stream", "c1"),
        Exchange(SECRET + b"x", 1, 2).calls(a, b, "/raft/stream", "c1"),
        "",
        None,
        "\udcff",
    ]
    assert not any(same(proof, other) for other in others)


@pytest.mark.parametrize("text", [None, "", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "\udcff" * 32])
def test_what_is_no_nonce_is_seen(text):
    assert not is_nonce(text)
