"""The vocabulary of confchange scripts: one configuration, changed by one command after the other.

    simple                      input: v1 l2 r3 u4          a change of one voter at most
    enter-joint [autoleave=B]   the same input              into a joint configuration
    leave-joint                                             out of it

Each prints the configuration and the progress of every node, or why the change was refused; a refused one changes
nothing. The log grows by one entry with each command, which shows in where the probing of a new node starts.

Follows etcd-io/raft: confchange/datadriven_test.go.
"""

from __future__ import annotations

from typing import Final

from raft.confchange import Changer
from raft.describe import conf_changes_from_text, describe_progress
from raft.errors import ConfChangeError
from raft.interaction.datadriven import Directive, ScriptError
from raft.tracker import ProgressTracker

__all__ = ["COMMANDS", "ConfChanges"]

COMMANDS: Final = ("simple", "enter-joint", "leave-joint")


class ConfChanges:
    """Runs the directives of one script on one configuration, which is empty at first."""

    def __init__(self) -> None:
        self.tracker = ProgressTracker(max_inflight_msgs=10)
        self.last_index = 0

    def run(self, directive: Directive) -> str:
        """The configuration after the command. Raises `ScriptError`."""
        if directive.command not in COMMANDS:
            raise ScriptError(
                f"{directive.where}: unknown command {directive.command!r}; "
                f"in a confchange script, there are {', '.join(COMMANDS)}"
            )
        try:
            self._change(directive)
        except (ConfChangeError, ValueError) as error:
            return str(error)
        finally:
            self.last_index += 1
        return f"{self.tracker.config}\n{describe_progress(self.tracker.progress)}"

    def _change(self, directive: Directive) -> None:
        changes = conf_changes_from_text(directive.given)
        changer = Changer(self.tracker, self.last_index)
        if directive.command == "simple":
            config, progress = changer.simple(changes)
        elif directive.command == "enter-joint":
            auto_leave = any(
                argument.key == "autoleave" and argument.values == ("true",) for argument in directive.arguments
            )
            config, progress = changer.enter_joint(auto_leave, changes)
        elif changes:
            raise ValueError("this command takes no input")
        else:
            config, progress = changer.leave_joint()
        self.tracker.config, self.tracker.progress = config, progress
