"""engines/btree/explain.py: the pages of a get, and by them what a put has copied."""

from __future__ import annotations

from dataclasses import replace

from engines.btree import BTreeStore
from engines.btree.explain import explain
from engines.simenv import SimEnv


def pages(store: BTreeStore, key: bytes) -> list[int]:
    return [step["page"] for step in store.explain(key)["steps"]]


def test_a_put_copies_the_whole_path_and_nothing_else() -> None:
    """Copy-on-write: the meta, the root bucket's leaf, branch and leaf of the key are others; another leaf is the same."""
    with BTreeStore("/db", env=SimEnv(0), page_size=1024) as store:
        store.load((b"%04d" % number, b"v" * 50) for number in range(300))
        before, other = pages(store, b"0100"), pages(store, b"0250")
        store.put(b"0100", b"new")
        after, other_after = pages(store, b"0100"), pages(store, b"0250")
        assert len(before) == len(after) == 4  # meta, root bucket, branch, leaf
        assert all(old != new for old, new in zip(before, after))
        assert other[-1] == other_after[-1] and other[:-1] != other_after[:-1]
        letters = store.describe()["map"]
        assert [letters[page] for page in after] == ["M", "L", "B", "L"]
        assert all(letters[page] in ".w" for page in before[1:])


def test_an_explanation_says_where_in_the_leaf_the_key_is() -> None:
    with BTreeStore("/db", env=SimEnv(0), page_size=1024) as store:
        assert store.explain(b"a")["steps"][-1]["result"] == "not here"
        store.put(b"a", b"1")
        store.put(b"b", b"v" * 5000)
        steps = store.explain(b"b")["steps"]
        assert steps[-1]["result"] == "a value, key 2 of 2" and steps[-1]["pages"] == 5
        assert [step["place"] for step in steps] == ["meta", "leaf", "leaf"]


def test_another_bucket_is_not_a_value() -> None:
    """Here the root bucket itself is asked, whose only key is the name of ours."""
    with BTreeStore("/db", env=SimEnv(0)) as store:
        store.put(b"a", b"1")
        state = store._current.state
        top = replace(state, root_id=state.meta.root, root=state.pager.load(state.meta.root))
        told = explain(top, None, b"metcd")
        assert told["found"] is False and told["steps"][-1]["result"] == "another bucket has this name"
