"""What is in a directory, by names and modes: which data files count, which don't, and what is left over. Only looked at.

    3.bitcask.data         counts
    4.bitcask.data         mode 0601: Riak has merged it, and is about to delete it      engines.bitcask.leftovers
    5.bitcask.data.new     doesn't, unless a load that has happened lists it             engines.bitcask.intent
    1.bitcask.data         doesn't, if that load says that it is void
    2.bitcask.hint         a hint without its data says nothing

So a reader that may change nothing knows what an opening for writing would make of the directory.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engines.bitcask.intent import read_intent
from engines.bitcask.segment import data_file_id, data_path
from engines.env import Env

__all__ = ["Survey", "directory_has_segments", "survey"]

PENDING_DELETE = 0o4001  # permission bits with which Riak marks a data file that it is about to delete


@dataclass(slots=True)
class Survey:
    """The files of a directory by what they are for."""

    data: list[int] = field(default_factory=list)  # ids of the files that count, ascending; without the marked ones
    marked: dict[int, int] = field(default_factory=dict)  # id → mode of files that Riak is about to delete
    unnamed: dict[int, str] = field(default_factory=dict)  # id → path, of those in `data` that wait for their name
    leftovers: list[str] = field(default_factory=list)  # names of unfinished files, and of hints without data
    next_id: int = 1  # above every id that was seen


def survey(env: Env, directory: str) -> Survey:
    """Raises CorruptionError for a damaged list of a load, FileNotFoundError if a file goes away meanwhile, OSError."""
    new, void = read_intent(env, directory)
    found = Survey()
    hints: set[int] = set()
    for name in env.list(directory):
        file = data_file_id(name)
        if file is None:
            continue
        file_id, kind = file
        path = f"{directory}/{name}"
        found.next_id = max(found.next_id, file_id + 1)
        if env.is_dir(path):
            continue  # somebody's, but no other file can have its name
        if kind == "data.new" and file_id in new and not env.exists(data_path(directory, file_id)):
            found.data.append(file_id)
            found.unnamed[file_id] = path
        elif kind.endswith(".new"):
            found.leftovers.append(name)
        elif kind == "hint":
            hints.add(file_id)
        elif file_id not in void:
            mode = env.mode(path)
            if mode & PENDING_DELETE:
                found.marked[file_id] = mode
            else:
                found.data.append(file_id)
    found.data.sort()
    alone = hints - {*found.data, *found.marked, *void}
    found.leftovers += [f"{file_id}.bitcask.hint" for file_id in sorted(alone)]
    return found


def directory_has_segments(env: Env, directory: str) -> bool:
    """True if a file in the directory is named like one of Bitcask's data files."""
    return any((file := data_file_id(name)) is not None and file[1] == "data" for name in env.list(directory))
