"""`load`: replacing the whole content, so that a crash leaves the old one or the new one.

    1  write 7.bitcask.data.new and 8.bitcask.data.new, sync them       a crash: they are removed, the old content stays
       and then their names, or else the intent file could be there without them
    2  write and sync the intent file, rename it to its name, sync the names            ← the moment of the load
    3  rename 7 and 8, remove 1, 2 and 3, sync the names                a crash: the next open does it again
    4  remove the intent file                                           engines.bitcask.intent

Files that open snapshots still need stay after step 3, and the intent file with them, so that a crash can't bring them
back. If a load follows before that, its intent file replaces the first one and takes over its list.

Riak doesn't know the intent file. It sees the old content until step 3, and the new one after it; between the two, and
while a snapshot keeps void files, the directory is locked against it, and after a crash our open has to come first.
"""

from __future__ import annotations

from collections.abc import Iterable

from engines.bitcask.core import Core
from engines.bitcask.intent import write_intent
from engines.bitcask.keydir import Keydir
from engines.bitcask.output import Output
from engines.bitcask.record import HEADER_BYTES, encode_record
from engines.kvstore import Pair
from engines.lifetime import holding

__all__ = ["load"]


def load(core: Core, pairs: Iterable[Pair]) -> None:
    """Replaces the store's content. Requires: the merging lock; `pairs` ascend and were checked (engines.pairs).

    Raises what `pairs` raises, and OSError; before the intent file has its name nothing has changed. O(pairs).
    """
    outputs: list[Output] = []
    try:
        for key, value in pairs:
            size = HEADER_BYTES + len(key) + len(value)
            if not outputs or outputs[-1].segment.is_full(size, core.options.max_file_size):
                if outputs:
                    outputs[-1].finish("bitcask.load.output")
                outputs.append(core.writing(_new_output, core))
            timestamp = core.log.timestamp()
            outputs[-1].add(encode_record(timestamp, key, value), timestamp, key)
        if outputs:
            outputs[-1].finish("bitcask.load.output")
    except BaseException:
        if (
            core.failure is None
        ):  # else the next opening removes them, or the parent of a forked process goes on with them
            for output in outputs:
                output.discard()
        raise
    core.writing(_replace, core, outputs)


def _new_output(core: Core) -> Output:
    core.check_usable()
    return Output(core.table, core.table.take_id())


def _replace(core: Core, outputs: list[Output]) -> None:
    """Steps 2 to 4. If one fails, only the next opening may say which files count. Requires: the writer's lock."""
    core.check_usable()
    table = core.table
    core.log.abandon()
    void = table.file_ids()
    table.sync_names("bitcask.load.names")
    write_intent(table, [output.segment.id for output in outputs], void | table.void)
    for output in outputs:
        output.publish()
    keydir = Keydir()
    for output in outputs:
        table.write_hint(output.segment, output.hint())
        keydir.load(output.segment, output.entries(), table.live)
    holding(core.mutex, _turn, core, keydir, void)
    core.remove_retired()


def _turn(core: Core, keydir: Keydir, void: set[int]) -> None:
    """The new content is what readers see. Requires: the mutex."""
    core.turn_to(keydir)
    core.table.void |= void
    core.table.retire(core.table.live.keys() & void)
