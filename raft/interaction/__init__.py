"""Raft as a script: commands move nodes and messages one step at a time, and the text beside them is what happens.

    campaign 1
    ----
    INFO 1 is starting a new election at term 0
    INFO 1 became candidate at term 1
    …

A script is a run that can be read, compared by bytes, and written again when the library's words change. The scripts of
etcd-io/raft's testdata run here as they are; our own, tests/raft/scripts, are what to read first.

    __main__.py             python -m raft.interaction FILE…: compare, rewrite, print
    datadriven.py           the grammar of the files
    script.py               which vocabulary, what is printed, where it differs
    output.py               log levels and indentation
    cluster.py              nodes, messages in flight, Readies
    commands.py             the vocabulary of interaction scripts: 24 commands
    quorum_commands.py      that of quorum scripts
    film.py                 a script as a film (raft/simulation/film)
    confchange_commands.py  that of scripts about configurations

Only `__main__.py` opens files; all else is text in, text out.

Left out: the grammar's subtests, which none of these scripts use.

Follows etcd-io/raft: rafttest/ and the packages' datadriven_test.go.
"""

from raft.interaction.commands import Interaction
from raft.interaction.datadriven import Directive, Script, ScriptError, parse_script, rewritten
from raft.interaction.script import Difference, first_difference, outputs, without_log_lines

__all__ = [
    "Difference",
    "Directive",
    "Interaction",
    "Script",
    "ScriptError",
    "first_difference",
    "outputs",
    "parse_script",
    "rewritten",
    "without_log_lines",
]
