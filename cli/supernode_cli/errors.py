"""The one error that reaches a user: a sentence and exit status 2.

CliError
└── raised wherever a file, a flag or a cluster is not as it must be; main prints it without a traceback
"""

from __future__ import annotations

import click

__all__ = ["CliError"]


class CliError(click.ClickException):
    """Bad input or an unreachable cluster: message with the field and the remedy, exit status 2."""

    exit_code = 2
