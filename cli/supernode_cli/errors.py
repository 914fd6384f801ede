"""The errors that reach a user: a sentence with the field and the remedy, and exit status 2.

CliError         wherever a file, a flag or a cluster is not as it must be; main prints it without a traceback
ScenarioError    what is wrong inside a document, whoever has read it; commands say which document it is
"""

from __future__ import annotations

import click

__all__ = ["CliError", "ScenarioError"]


class CliError(click.ClickException):
    """Bad input or an unreachable cluster: message with the field and the remedy, exit status 2."""

    exit_code = 2


class ScenarioError(Exception):
    """A scenario that cannot be; ``field`` is where, the message what to do."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.problem = message
        """Without the field, unless the message begins with it."""
        said = message if not field or message.startswith(field) else f"{field}: {message}"
        # Keys of a file may hold anything, and an error is one line.
        super().__init__("".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in said))

    def under(self, field: str) -> ScenarioError:
        """Return the error as one of a part of a larger document, which is at ``field`` there."""
        return ScenarioError(f"{field}.{self.field}" if self.field else field, self.problem)
