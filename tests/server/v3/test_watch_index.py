"""Who watches a key: the index finds whom a list of all watchers finds, whatever came and went."""

import os
import random

from server.v3.watch_index import TO_THE_END, Watched, WatchIndex

SEED = int(os.environ.get("METCD_SEED", "0"))


def found(index, key):
    assert all(index.at(key)), "no group is empty"
    return sorted(watcher for group in index.at(key) for watcher in group)


def test_it_finds_whom_a_list_finds():
    rng = random.Random(SEED)
    keys = [bytes(rng.choices(b"ab", k=rng.randrange(1, 5))) for _ in range(40)]
    for _ in range(30):
        index, here = WatchIndex(), {}
        for number in range(rng.randrange(200)):
            if here and rng.random() < 0.4:
                gone = rng.choice(list(here))
                index.remove(*here.pop(gone), gone)
            else:
                key = rng.choice(keys)
                stop = rng.choice([None, None, TO_THE_END, key + b"\xff", *(each for each in keys if each > key)])
                here[number] = (key, stop)
                index.add(key, stop, number)
            key = rng.choice(keys)
            wanted = [each for each, (start, stop) in here.items() if start == key or (stop and start <= key < stop)]
            assert found(index, key) == sorted(wanted), f"METCD_SEED={SEED}"
        assert sorted(index.watchers()) == sorted(here)
        assert len(index) == len(here)


def test_the_longest_key_is_before_the_end():
    index = WatchIndex()
    index.add(b"a", TO_THE_END, 1)
    assert found(index, b"\xff" * 32_767) == [1]
    assert found(index, b"A") == []


def test_ten_thousand_ranges_in_any_order_are_a_shallow_tree():
    def depth(node):
        return 0 if node is None else 1 + max(depth(node.left), depth(node.right))

    for order in (1, -1):
        index = WatchIndex()
        for number in range(10_000)[::order]:
            index.add(b"%05d" % number, b"%05d\xff" % number, number)
        assert depth(index._root) < 60
        assert found(index, b"00777x") == [777]
        index.add(b"", TO_THE_END, -1)
        for number in range(0, 10_000, 2):
            index.remove(b"%05d" % number, b"%05d\xff" % number, number)
        assert found(index, b"00778x") == [-1]
        assert found(index, b"00777x") == [-1, 777]


def test_what_is_watched_is_known_and_what_was_never_isnt():
    rng = random.Random(SEED)
    keys = [bytes(rng.choices(b"ab", k=rng.randrange(1, 5))) for _ in range(40)]
    for _ in range(50):
        watched, here, ever = Watched(), [], []
        for _ in range(rng.randrange(60)):
            if here and rng.random() < 0.4:
                watched.remove(*here.pop(rng.randrange(len(here))))
            else:
                key = rng.choice(keys)
                here.append(
                    (key, rng.choice([None, TO_THE_END, key + b"\xff", *(each for each in keys if each > key)]))
                )
                ever.append(here[-1])
                watched.add(*here[-1])
            for key in keys:
                now, once = (
                    any(start == key or (stop and start <= key < stop) for start, stop in each) for each in (here, ever)
                )
                assert now <= watched.has(key) <= once, f"METCD_SEED={SEED}"
            assert watched.somebody == bool(here)
        while here:
            watched.remove(*here.pop())
        assert not watched.somebody
        assert not any(map(watched.has, keys))


def test_ten_thousand_ranges_that_go_are_not_looked_at_for_each_of_them(monkeypatch):
    """A stream that ended with so many took 16 s, in which no other stream had a turn."""
    times = []
    make_anew = Watched._make_anew
    monkeypatch.setattr(Watched, "_make_anew", lambda self: (times.append(1), make_anew(self)))
    watched = Watched()
    for number in range(10_000):
        watched.add(b"%05d" % number, b"%05d\xff" % number)
    assert not times
    for number in range(10_000):
        watched.remove(b"%05d" % number, b"%05d\xff" % number)
        if number == 9_000:  # a change of what nobody watches any more costs nothing
            assert not watched.has(b"01000x") and watched.has(b"09500x")
    assert len(times) < 30
