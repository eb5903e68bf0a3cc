"""Chapter 12: a change makes another tree beside the old one, and a commit puts it in the old one's place."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import pytest

from engines.btree import BTreeStore
from engines.btree.bulk import build_tree
from engines.btree.commit import Committer
from engines.btree.current import Current
from engines.btree.cursor import leaves_forward
from engines.btree.freelist import Freelist
from engines.btree.meta import Meta
from engines.btree.node import Node
from engines.btree.options import Options
from engines.btree.page import MAX_COUNT, BucketValue
from engines.btree.pager import MAX_LEVELS, Pager, StoreFull
from engines.btree.parts import PLAIN
from engines.btree.recovery import open_database
from engines.btree.tree import Changes, TreeWriter
from engines.btree.walk import pages_of_tree
from engines.env import Env
from engines.errors import CorruptionError, InvalidKey, StoreFailed
from engines.faultenv import FaultEnv
from engines.kvstore import Stats
from engines.simenv import Call, Policy, SimEnv
from tests.chapters.kit import History, model_run, power_cuts, rounds, store_subject

PAGE = 1024
ROOM = PAGE - 8  # of a page, for a node: the trailer has the rest
DATA, META = "btree.commit.data", "btree.commit.meta"

Items = Iterable[tuple[bytes, bytes | None]]


def first_writer() -> TreeWriter:
    """The first transaction of an empty file in memory, with pages of 1,024 bytes."""
    env = SimEnv(0)
    pager = Pager(env, "/db", env.lock("/db", "flock"), PAGE, Stats(), 1 << 24, None)
    file = env.open("/db", "r+")
    file.allocate(32 * PAGE)
    pager.attach(file, writable=True)
    return TreeWriter(pager, Freelist([], 2), 1, 0.5)


def next_writer(writer: TreeWriter) -> TreeWriter:
    return TreeWriter(writer.pager, writer.freelist, writer.txid + 1, 0.5)


def sorted_changes(items: Items) -> Changes:
    """Without the learner's Changes.of."""
    merged = dict(items)
    return Changes(sorted(merged), [merged[key] for key in sorted(merged)])


def pairs_of(nodes: Iterable[Node]) -> list[tuple[bytes, bytes]]:
    return [pair for node in nodes for pair in zip(node.keys, node.values)]


def content(pager: Pager, root: int) -> dict[bytes, bytes]:
    return dict(pairs_of(leaves_forward(pager, pager.load(root), b"")))


def pages_in(pager: Pager, root: int) -> set[int]:
    return {page for pgid, pages in pages_of_tree(pager, root) for page in range(pgid, pgid + pages)}


def nodes_in(pager: Pager, root: int) -> list[Node]:
    return [pager.load(pgid) for pgid, _ in pages_of_tree(pager, root)]


def require_shape(pager: Pager, pgid: int, first: bytes | None = None) -> int:
    """What every tree has to be; the depth of this one."""
    node = pager.load(pgid)
    assert node.keys == sorted(set(node.keys)), f"page {pgid}: the keys {node.keys} don't ascend"
    assert first is None or node.keys[0] == first, (
        f"page {pgid} begins with {node.keys[0]!r}, and its branch has {first!r} for it: bbolt looks for the exact key"
    )
    assert node.size_bytes <= PAGE * node.pages - 8, (
        f"page {pgid}: its {node.size_bytes} bytes leave no room for the trailer"
    )
    if not node.children:
        return 1
    assert len(node.children) >= 2, f"page {pgid} is a branch over {len(node.children)} child"
    depths = {require_shape(pager, child, key) for key, child in zip(node.keys, node.children)}
    assert len(depths) == 1, f"page {pgid}: the leaves below it have the depths {sorted(depths)}"
    return depths.pop() + 1


def a_thousand(writer: TreeWriter) -> int:
    """A tree of 1,000 keys and three levels; its root."""
    return build_tree(writer, ((b"%04d" % number, b"v" * 40) for number in range(1_000)))


# ---------------------------------------------------------------------------------------------------------------- nodes


def test_of_two_changes_of_a_key_the_later_counts(rng: random.Random) -> None:
    """Changes.of: in any order, with deletes between; the keys come out in order, each once."""
    assert Changes.of([(b"b", b"1"), (b"a", b"2"), (b"b", None)]) == Changes([b"a", b"b"], [b"2", None])
    assert Changes.of([(b"b", None), (b"b", b"1")]) == Changes([b"b"], [b"1"])
    assert Changes.of([]) == Changes([], [])
    for _ in range(rounds(40)):
        operations = [(rng.randbytes(1), rng.choice((None, b"x", b"y"))) for _ in range(rng.randrange(60))]
        assert Changes.of(operations) == sorted_changes(operations), f"of {operations}"


def some_node(rng: random.Random) -> Node:
    keys = sorted({b"%d" % rng.randrange(10**6) for _ in range(rng.randrange(1, 120))})
    if rng.random() < 0.4:
        return Node.branch(keys, [rng.randrange(2, 10**6) for _ in keys])
    return Node.leaf(keys, [b"v" * rng.choice((0, 3, 40, 300, 900)) for _ in keys])


def test_a_split_keeps_every_element_and_fills_each_piece(rng: random.Random) -> None:
    """As much as `fill` allows, two at least, and never fewer than two for the rest."""
    for _ in range(rounds(240)):
        node, fill = some_node(rng), rng.choice((0.1, 0.3, 0.5, 0.9, 1.0))
        before = node.keys.copy(), node.values.copy(), list(node.children)
        pieces = node.split(PAGE, fill)
        found = [key for piece in pieces for key in piece.keys]
        assert found == node.keys, f"the pieces have the keys {found}, and the node had {node.keys}"
        assert [value for piece in pieces for value in piece.values] == node.values
        assert [child for piece in pieces for child in piece.children] == list(node.children)
        assert before == (node.keys, node.values, list(node.children)), "the node itself stays as it was"
        if node.fits(PAGE):
            assert pieces == [node], "what fits stays whole"
            continue
        sizes = [16 + len(key) for key in node.keys]
        if not node.children:
            sizes = [size + len(value) for size, value in zip(sizes, node.values)]
        at = 0
        for piece in pieces[:-1]:
            count, left = len(piece.keys), len(sizes) - at
            most = 0
            while most < left and 16 + sum(sizes[at : at + most + 1]) <= int(ROOM * fill):
                most += 1
            assert count == min(max(most, 2), left - 2), f"a piece has {count} of {left} elements with fill {fill}"
            at += count
        assert pieces[-1].fits(PAGE), (
            f"the last piece has {len(pieces[-1].keys)} keys and {pieces[-1].size_bytes} bytes"
        )


def test_a_node_has_no_more_elements_than_its_header_can_count() -> None:
    """MAX_COUNT: the header's count has 16 bits, and 0xFFFF means something else in a freelist."""
    keys = [b"%05d" % number for number in range(MAX_COUNT + 10)]
    pieces = Node.leaf(keys, [b""] * len(keys)).split(1 << 22, 1.0)
    counts = [len(piece.keys) for piece in pieces]
    assert counts == [MAX_COUNT, 10], f"{len(keys)} elements, all of which fit into the page, were cut into {counts}"


def test_two_nodes_are_joined_in_order() -> None:
    """Keys with their values, or with their page ids; the two stay as they were."""
    left, right = Node.leaf([b"a", b"b"], [b"1", b"2"]), Node.leaf([b"c"], [b"3"])
    both = left.joined(right)
    assert (both.keys, both.values, both.size_bytes) == ([b"a", b"b", b"c"], [b"1", b"2", b"3"], 16 + 3 * 18)
    assert (left.keys, right.keys) == ([b"a", b"b"], [b"c"])
    branch = Node.branch([b"a", b"b"], [5, 6]).joined(Node.branch([b"c"], [7]))
    assert (branch.keys, list(branch.children), branch.values) == ([b"a", b"b", b"c"], [5, 6, 7], [])


def test_what_is_written_is_what_is_read() -> None:
    """TreeWriter.write: pages of its own, of this transaction, with a checksum; in the cache and on the disk."""
    writer = first_writer()
    pager = writer.pager
    for node in (
        Node.leaf([b"a"], [b"1"]),
        Node.leaf([], []),
        Node.leaf([b"k"], [b"L" * 5_000]),
        Node.branch([b"a", b"b"], [7, 9]),
    ):
        high_water = writer.freelist.high_water
        pgid = writer.write(node)
        assert pager.nodes[pgid] is node, "what was written is in the cache"
        due = -(-(node.size_bytes + 8) // PAGE)
        assert node.born == 1, f"transaction 1 has written the node, and it says that {node.born} has"
        assert node.pages == due, f"{node.size_bytes} bytes and a trailer take {due} pages, and it says {node.pages}"
        assert writer.freelist.high_water == high_water + node.pages, "as many pages were allocated as are needed"
        pager.nodes.clear()
        found = pager.load(pgid)
        assert (found.keys, found.values, found.children) == (node.keys, node.values, node.children)
        crc = int.from_bytes(pager.run(pgid)[0][-4:], "little")
        assert writer.written.get(pgid) == crc, f"page {pgid} has the checksum {crc}, and `written` is {writer.written}"
    pager.nodes.clear()
    writer.write(Node.leaf([b"b"], [b"2"]), cache=False)
    assert not pager.nodes, "cache=False"


# --------------------------------------------------------------------------------------------------------------- leaves


def leaf_after(keys: Sequence[bytes], items: Items, *, rightmost: bool = False) -> list[Node] | None:
    """update_leaf on a leaf of these keys, each with the value b"old"."""
    writer = first_writer()
    node = Node.leaf(list(keys), [b"old"] * len(keys))
    before = node.keys.copy(), node.values.copy()
    writer.changes = changes = sorted_changes(items)
    pieces = writer.update_leaf(0, node, 0, len(changes.keys), rightmost)
    assert (node.keys, node.values) == before, "a node of the old tree was changed: who reads that tree sees it"
    return pieces


def test_changes_are_merged_into_a_leaf(rng: random.Random) -> None:
    """Against a dict; the leaf of the old tree stays as it was."""
    for _ in range(rounds(400)):
        keys = sorted({b"%02d" % rng.randrange(100) for _ in range(rng.randrange(40))})
        items = [(b"%02d" % rng.randrange(100), rng.choice((None, b"", b"new"))) for _ in range(rng.randrange(1, 20))]
        expected = dict.fromkeys(keys, b"old")
        for key, value in zip(*sorted_changes(items)):
            if value is None:
                expected.pop(key, None)
            else:
                expected[key] = value
        pieces = leaf_after(keys, items)
        if all(value is None and key not in keys for key, value in dict(items).items()):
            assert pieces is None, f"deleting {items} from {keys} changes nothing"
        else:
            assert pieces is not None, f"{items} changes {keys}"
            assert pairs_of(pieces) == sorted(expected.items()), f"after {items} on {keys}"


def test_a_leaf_says_what_became_of_it() -> None:
    """None: nothing. []: emptied. A value set again is a change: who asks for it gets a commit."""
    assert leaf_after([b"a", b"b"], [(b"c", None)]) is None
    assert leaf_after([b"a", b"b"], [(b"a", None), (b"b", None)]) == []
    again = leaf_after([b"a"], [(b"a", b"old")])
    assert again is not None and pairs_of(again) == [(b"a", b"old")]


def test_only_its_share_of_the_changes_is_merged() -> None:
    """changes[low:high], not all of them."""
    writer = first_writer()
    writer.changes = sorted_changes((key, b"new") for key in (b"a", b"b", b"c", b"d"))
    pieces = writer.update_leaf(0, Node.leaf([b"b"], [b"old"]), 1, 3, False)
    assert pieces is not None and pairs_of(pieces) == [(b"b", b"new"), (b"c", b"new")]


def test_ascending_keys_leave_full_pages() -> None:
    """Appended at the tree's end, or to an empty leaf, pages stay full; in any other place they are split at `fill`."""
    keys = [b"%03d" % number for number in range(40)]
    new = [(b"%03d" % number, b"new") for number in range(40, 60)]
    appended = leaf_after(keys, new, rightmost=True)
    elsewhere = leaf_after(keys, new)
    between = leaf_after(keys, [(b"0000", b"new"), *new], rightmost=True)
    first = leaf_after([], [(key, b"new") for key in [*keys, *dict(new)]], rightmost=True)
    for what, pieces, full in (
        ("appended at the right edge", appended, True),
        ("put into an empty leaf at the right edge", first, True),
        ("appended to another leaf", elsewhere, False),
        ("put at the right edge, with one between the old ones", between, False),
    ):
        assert pieces is not None and len(pieces) > 1
        require_fill(pieces[0], full, f"keys were {what}")


def require_fill(piece: Node, full: bool, what: str) -> None:
    """The first piece of a split: filled to the brim, or to the writer's `fill` of 0.5."""
    due = "more than 0.9" if full else "at most 0.5"
    fine = piece.size_bytes > 0.9 * ROOM if full else piece.size_bytes <= 0.5 * ROOM
    assert fine, f"{what}: the first piece should take {due} of {ROOM} bytes, and has {piece.size_bytes}"


@pytest.mark.parametrize("value", [b"1", None], ids=["put", "delete"])
def test_a_bucket_is_in_the_way(value: bytes | None) -> None:
    """bbolt's "incompatible value"; another bucket may take its place."""
    writer = first_writer()
    leaf = Node.leaf([b"a", b"b"], [BucketValue(bytes(16)), b"2"])
    writer.changes = Changes([b"a"], [value])
    with pytest.raises(InvalidKey, match="is a bucket"):
        writer.update_leaf(0, leaf, 0, 1, False)
    writer.changes = Changes([b"a"], [BucketValue(b"\1" * 16)])
    pieces = writer.update_leaf(0, leaf, 0, 1, False)
    assert pieces is not None and type(pieces[0].values[0]) is BucketValue


# ---------------------------------------------------------------------------------------------------------------- trees


def test_any_changes_make_the_tree_that_they_should(rng: random.Random, history: History) -> None:
    """Against a dict, one or many at once. The old tree still shows the old content, and every tree has its shape."""
    writer = first_writer()
    pager = writer.pager
    root, model = writer.write(Node.leaf([], [])), dict[bytes, bytes]()
    for _ in range(rounds(320)):
        puts = rng.random()
        items = [
            (b"%03d" % rng.randrange(500), b"v" * rng.randrange(60) if rng.random() < puts else None)
            for _ in range(rng.choice((1, 1, 2, 30, 300)))
        ]
        changes = sorted_changes(items)
        history.do(f"{len(changes.keys)} changes, from {changes.keys[0]!r} to {changes.keys[-1]!r}")
        writer = next_writer(writer)
        found = writer.apply(root, changes)
        assert content(pager, root) == model, "the old tree shows something new"
        changed = {key: value for key, value in zip(*changes) if value is not None or key in model}
        if found is None:
            assert not changed, f"{changed} changes something"
            continue
        model = {key: value for key, value in (model | changed).items() if value is not None}
        pager.nodes.clear()
        assert content(pager, found) == model
        require_shape(pager, found)
        root = found


def test_only_at_the_right_edge_branches_and_leaves_are_filled() -> None:
    """Of a whole tree, only the path to the last key; of a branch, only if its last child alone was replaced."""
    for after, full in ((b"0999", True), (b"0500", False)):
        writer = first_writer()
        pager, root = writer.pager, a_thousand(writer)
        leaf = next(leaves_forward(pager, pager.load(root), after))
        new = [leaf.keys[-1] + b"%02d" % number for number in range(40)]
        found = next_writer(writer).apply(root, Changes(new, [b"v" * 40] * 40))
        assert found is not None
        first = next(leaves_forward(pager, pager.load(found), leaf.keys[0]))
        require_fill(first, full, f"keys were put after the last one of the leaf that has {after!r}")
    node = Node.branch([b"%03d" % number for number in range(40)], range(100, 140))
    pieces = [Node.leaf([b"039%02d" % number], [b""]) for number in range(20)]
    of_last, of_two = {39: pieces}, {0: [Node.leaf([b"000"], [b""])], 39: pieces}
    for what, replaced, rightmost, full in (
        ("the last child of a branch at the right edge", of_last, True, True),
        ("the last child of another branch", of_last, False, False),
        ("the last and the first child of a branch at the right edge", of_two, True, False),
    ):
        first, *_ = first_writer().rebuild(0, node, replaced, rightmost)
        require_fill(first, full, f"{what} became several")
    writer = first_writer()
    root = writer.plant([Node.leaf([b"%04d" % number], [b""]) for number in range(100)])
    require_shape(writer.pager, root)
    first = writer.pager.load(writer.pager.load(root).children[0])
    require_fill(first, False, "a hundred pieces got branches above them")


def test_a_branch_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged file, in which a branch over one child is its own child: `sink` gives up after MAX_LEVELS."""
    writer = first_writer()
    pager, loads = writer.pager, 0
    root = writer.write(Node.branch([b"a"], [writer.freelist.high_water]))
    load = pager.load

    def counted(pgid: int) -> Node:
        nonlocal loads
        loads += 1
        assert loads <= 2 * MAX_LEVELS, f"sink has loaded {loads} nodes, and goes on"
        return load(pgid)

    monkeypatch.setattr(pager, "load", counted)
    with pytest.raises(CorruptionError, match="deeper than"):
        writer.sink(root)


def test_one_change_writes_one_node_for_each_level() -> None:
    """O(height), by the counters of the pager: three pages written, the path read, and nothing else."""
    writer = first_writer()
    pager, root = writer.pager, a_thousand(writer)
    assert require_shape(pager, root) == 3
    for key, value in ((b"0500", b"another"), (b"0501x", b"new"), (b"0777", None)):
        writer = next_writer(writer)
        pager.nodes.clear()
        read, bytes_written = pager.stats.reads, pager.stats.bytes_written
        found = writer.apply(root, Changes([key], [value]))
        assert found is not None
        assert len(writer.written) == 3, f"{key!r} was changed, and {len(writer.written)} nodes were written"
        assert pager.stats.bytes_written - bytes_written == 3 * PAGE
        reads = pager.stats.reads - read
        assert reads == 3, f"{key!r} was changed, and {reads} nodes were read: a child without a change needn't be"
        root = found


def test_only_the_changed_paths_are_rewritten(rng: random.Random) -> None:
    """Written is exactly what the new tree has and the old one has not; dropped, the other way round, each page once."""
    writer = first_writer()
    pager, root = writer.pager, a_thousand(writer)
    for _ in range(rounds(80)):
        before = pages_in(pager, root)
        writer = next_writer(writer)
        items = [
            (b"%04d" % rng.randrange(1_000), rng.choice((b"new" * 9, None, None))) for _ in range(rng.randrange(1, 30))
        ]
        root = writer.apply(root, sorted_changes(items)) or root
        after = pages_in(pager, root)
        assert set(writer.written) == after - before, "written, but not part of the new tree, or the other way round"
        assert sorted(page for page, _ in writer.dropped) == sorted(before - after), (
            "dropped is what only the old tree has"
        )


def test_deletes_leave_no_page_below_a_quarter(rng: random.Random) -> None:
    """Small nodes are joined with a neighbour, leaves and branches alike, and the tree loses its levels again."""
    writer = first_writer()
    pager, root = writer.pager, a_thousand(writer)
    keys = [b"%04d" % number for number in range(1_000)]
    rng.shuffle(keys)
    for number, key in enumerate(keys[:-1], start=1):
        writer = next_writer(writer)
        found = writer.apply(root, Changes([key], [None]))
        assert found is not None
        root = found
        if number % 100 == 0 or number > 990:
            require_shape(pager, root)
            for node in nodes_in(pager, root):
                small = node.size_bytes < PAGE // 4 and node is not pager.load(root)
                assert not small, (
                    f"after {number} deletes a node of {node.size_bytes} bytes is left beside its neighbours"
                )
    assert pager.load(root).keys == [keys[-1]], "one key is one leaf"
    found = next_writer(writer).apply(root, Changes([keys[-1]], [None]))
    assert found is not None and (pager.load(found).keys, list(pager.load(found).children)) == ([], [])


def test_an_emptied_child_is_gone_and_the_root_sinks() -> None:
    """All keys but one leaf's are deleted at once: that leaf is the root, and isn't written again."""
    writer = first_writer()
    pager, root = writer.pager, a_thousand(writer)
    leaf = next(leaves_forward(pager, pager.load(root), b"0500"))
    writer = next_writer(writer)
    gone = [b"%04d" % number for number in range(1_000) if b"%04d" % number not in leaf.keys]
    found = writer.apply(root, Changes(gone, [None] * len(gone)))
    assert found is not None
    assert not pager.load(found).children, "one leaf is left, and there is still a branch above it"
    assert pager.load(found).keys == leaf.keys
    before, after = pages_in(pager, root), pages_in(pager, found)
    assert after <= before, "the leaf was there already, and needn't be written"
    gone_pages = sorted((before | set(writer.written)) - after)
    assert sorted(page for page, _ in writer.dropped) == gone_pages, (
        "dropped is what the new tree hasn't, the branches that `sink` passed among it"
    )


def test_a_small_piece_beside_a_long_run_stays() -> None:
    """To write 9 KB again for the sake of a few bytes is worse than a small page."""
    writer = first_writer()
    pager = writer.pager
    long = writer.write(Node.leaf([b"a"], [b"L" * 9_000]))
    short = writer.write(Node.leaf([b"b", b"c", b"d"], [b"v" * 200] * 3))
    root = writer.write(Node.branch([b"a", b"b"], [long, short]))
    writer = next_writer(writer)
    found = writer.apply(root, Changes([b"c", b"d"], [None, None]))
    assert found is not None and len(writer.written) == 2
    assert pager.load(found).children[0] == long, "the small piece was joined with a leaf of 9 pages"


def test_a_branch_over_one_child_is_joined_whatever_it_costs() -> None:
    """Beside a run of several pages too: a branch over one child may only be where there is no neighbour."""
    writer = first_writer()
    wide = Node.branch([letter * 900 for letter in (b"a", b"b", b"c", b"d")], [5, 6, 7, 8])
    narrow = Node.branch([b"e"], [9])
    narrow.shrunk = True
    keys, children, slots = [wide.keys[0], b"e"], [0, 0], [wide, narrow]
    writer.join_small(keys, children, slots)
    found = [list(slot.children) for slot in slots if slot is not None]
    assert found == [[5, 6], [7, 8, 9]], f"branches over the pages [5, 6, 7, 8] and [9] became {found}"
    assert keys == [slot.keys[0] for slot in slots if slot is not None]
    assert children == [0, 0], "what was joined has no page yet"


# --------------------------------------------------------------------------------------------------------------- commits


def metas_of(env: SimEnv) -> list[Meta]:
    image = env.files()["/db"]
    return [Meta.decode(image[page * PAGE :]) for page in (0, 1)]


def require_sound(store: BTreeStore) -> None:
    """What check() finds, told so that the function that has forgotten a page can be found."""
    problems = store.check()
    assert not problems, (
        f"check() finds {len(problems)} problems, the first is: {problems[0]}. Every page is in the tree or in the "
        "freelist; one that was replaced comes there by `drop`, and by `let_go` after the commit"
    )


def opened(env: Env) -> tuple[Current, Committer]:
    """What is inside of a store: its current state, and what commits."""
    current, committer = open_database(env, "/db", Options.of({"page_size": PAGE}), Stats(), PLAIN)
    assert committer is not None
    return current, committer


def test_a_commit_syncs_its_pages_and_then_its_meta() -> None:
    """Two fsyncs: at the first one both metas are old; between the two nobody sees the new state; then it is durable."""
    env = SimEnv(0)
    store = BTreeStore("/db", env=env, page_size=PAGE)
    store.put(b"a", b"1")
    before = sorted(meta.txid for meta in metas_of(env))
    seen: list[tuple[str, list[int], bytes | None]] = []

    def look(call: Call) -> None:
        if call.kind == "sync":
            seen.append((call.site, sorted(meta.txid for meta in metas_of(env)), store.get(b"a")))

    env.after_call = look
    store.put(b"a", b"2")
    env.after_call = None
    assert [site for site, _, _ in seen] == [DATA, META], "two fsyncs, the pages' first"
    assert seen[0][1] == before, "when the pages are synced, no new meta may be there yet"
    assert seen[1][1] == [before[1], before[1] + 1], "the older meta has been written over"
    assert [value for _, _, value in seen] == [b"1", b"1"], "a reader saw what a power cut could still take back"
    assert store.get(b"a") == b"2"


def test_each_commit_writes_over_the_older_meta() -> None:
    """txid by txid, each in the page that txid % 2 says: the newest one is never at risk."""
    env = SimEnv(0)
    store = BTreeStore("/db", env=env, page_size=PAGE)
    for number in range(5):
        before = max(meta.txid for meta in metas_of(env))
        store.put(b"a", b"%d" % number)
        assert sorted(meta.txid for meta in metas_of(env)) == [before, before + 1]
        assert [meta.page for meta in metas_of(env)] == [0, 1]


def test_a_commit_that_changes_nothing_writes_nothing() -> None:
    """No page, no meta, no fsync."""
    env = SimEnv(0)
    store = BTreeStore("/db", env=env, page_size=PAGE)
    store.put(b"a", b"1")
    before, fsyncs = env.files()["/db"], store.stats().fsyncs
    store.delete(b"b")
    store.flush()
    assert store.stats().fsyncs == fsyncs, "there was nothing to sync: the last commit is durable"
    assert env.files()["/db"] == before, "a delete of an absent key, and a flush of what is durable, wrote something"


def test_a_transaction_that_fails_leaves_everything_as_it_was() -> None:
    """A full file: nothing was changed, no page is lost, and the store goes on (bbolt issue 797 forgot part of it)."""
    env = SimEnv(0)
    store = BTreeStore("/db", env=env, page_size=PAGE, max_size=64 * PAGE)
    store.put(b"a", b"1")
    metas, pages = metas_of(env), store.stats().engine["pages"]
    with pytest.raises(StoreFull), store.batch() as batch:
        for number in range(100):
            batch.put(b"%03d" % number, b"v" * 900)
    assert (metas_of(env), dict(store.scan())) == (metas, {b"a": b"1"})
    assert store.stats().engine["pages"] == pages, "the pages of the failed transaction were not given back"
    store.put(b"b", b"2")
    assert dict(store.scan()) == {b"a": b"1", b"b": b"2"}
    require_sound(store)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_whatever_is_raised_takes_the_pages_back(error: type[BaseException]) -> None:
    """An interrupt as well as an error: no page is allocated or cached, and the same store goes on."""
    current, committer = opened(SimEnv(0))
    committer.apply([(b"a", b"1")])
    before, high_water = current.state, committer.freelist.high_water

    def fail(writer: TreeWriter) -> int:
        writer.write(Node.leaf([b"b"], [b"2"]))
        raise error("in the middle of a transaction")

    with pytest.raises(error):
        committer.commit(fail)
    assert current.state is before
    assert committer.freelist.high_water == high_water, f"after a {error.__name__}, pages stayed allocated"
    assert committer.apply([(b"b", b"2")])
    assert content(committer.pager, current.state.root_id) == {b"a": b"1", b"b": b"2"}


def test_pages_are_let_go_when_nobody_can_begin_to_read_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """`let_go` comes last: the old tree is what a power cut falls back to, and what readers begin with, until then."""
    current, committer = opened(SimEnv(0))
    committer.apply([(b"a", b"1")])
    txid, let_go = committer.next_txid(), committer.let_go
    seen: list[tuple[int, int]] = []

    def watched(writer: TreeWriter) -> None:
        seen.append((committer.durable, current.state.meta.txid))
        let_go(writer)

    monkeypatch.setattr(committer, "let_go", watched)
    committer.apply([(b"a", b"2")])
    assert seen == [(txid, txid)], (
        f"transaction {txid} let go of the old pages while (durable, current) were {seen}: each should be {txid}"
    )


def test_a_commit_whose_fsync_has_failed_is_not_taken_back() -> None:
    """Its meta may be on the disk: pages that were given back could be written over, and the disk's tree with them."""
    for failing in (1, 2):
        env = FaultEnv(SimEnv(0), 1_000_000, kinds=("sync",))
        current, committer = opened(env)
        committer.apply([(b"a", b"1")])
        before, high_water = current.state, committer.freelist.high_water
        env.fail_at = env.calls + failing
        with pytest.raises(OSError):
            committer.apply([(b"a", b"2")])
        assert current.state is before, "readers see a commit whose fsync has failed"
        assert committer.freelist.high_water > high_water, f"fsync {failing} has failed, and the pages were given back"


def test_a_buckets_own_counter_stays(rng: random.Random) -> None:
    """bbolt's users may have set it (NextSequence): in the next state, and in the file."""
    env = SimEnv(0)
    current, committer = opened(env)
    current.state.sequence = 7
    committer.apply([(b"a", b"1")])
    assert current.state.sequence == 7, f"the bucket's sequence was 7, and the new state has {current.state.sequence}"
    found, _ = opened(env.crash(Policy.EVERYTHING, rng))
    assert found.state.sequence == 7, f"the bucket's sequence was 7, and the file has {found.state.sequence}"


def test_a_misplaced_meta_is_misplaced_until_the_next_commit() -> None:
    """A backup's only meta may lie in the other one's page: one txid is skipped, and only that one."""
    current, committer = opened(SimEnv(0))
    committer.apply([(b"a", b"1")])
    first = current.state.meta.txid
    committer.misplaced = True
    committer.apply([(b"a", b"2")])
    committer.apply([(b"a", b"3")])
    assert current.state.meta.txid == first + 3, (
        f"txid {first} was misplaced, {first + 2} isn't: {first + 3} comes next, and not {current.state.meta.txid}"
    )


def test_after_a_failed_fsync_nobody_is_told_that_it_is_committed(rng: random.Random) -> None:
    """The error goes to the caller, and the store refuses everything: only the next opening knows what the disk has."""
    for failing in (1, 2):  # the pages' fsync, the meta's
        disk = SimEnv(0)
        env = FaultEnv(disk, 1_000_000, kinds=("sync",))
        store = BTreeStore("/db", env=env, page_size=PAGE)
        store.put(b"a", b"1")
        env.fail_at = env.calls + failing
        with pytest.raises(OSError):
            store.put(b"a", b"2")
        with pytest.raises(StoreFailed):
            store.get(b"a")
        found = BTreeStore("/db", env=disk.crash(Policy.EVERYTHING, rng), page_size=PAGE)
        allowed = (b"1",) if failing == 1 else (b"1", b"2")  # a meta whose fsync has failed may be there all the same
        assert found.get(b"a") in allowed, f"fsync {failing} of the commit failed, and {found.get(b'a')!r} is there"
        require_sound(found)


def test_the_store_is_the_contract(rng: random.Random, history: History) -> None:
    """Every operation on a store of small pages and on a dict, with snapshots held open, and reopened now and then."""
    for _ in range(rounds(12)):
        model_run(lambda env: BTreeStore("/db", env=env, page_size=PAGE), rng, history, steps=150)


def test_the_file_is_sound_after_any_history(rng: random.Random) -> None:
    """check() walks everything: order, bounds, depth, and that each page is reachable or listed as free, once."""
    for _ in range(rounds(8)):
        store = BTreeStore("/db", env=SimEnv(0), page_size=PAGE)
        for _ in range(40):
            with store.batch(sync=rng.random() < 0.5) as batch:
                for _ in range(rng.choice((1, 3, 30))):
                    key = b"%03d" % rng.randrange(200)
                    batch.put(key, b"v" * rng.randrange(120)) if rng.random() < 0.6 else batch.delete(key)
        require_sound(store)


def test_after_a_power_cut_it_is_the_old_tree_or_the_new_one(seed: int, history: History) -> None:
    """A cut after every call, page writes included, in each of eight ways: never a mixture of the two."""
    for round_ in range(rounds(4)):
        subject = store_subject("btree", steps=14, page_size=PAGE, durable_share=0.8)
        power_cuts(subject, seed + round_, history)
