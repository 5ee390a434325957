"""The command line: `tune`, `show`, `strategies`, `repair`, and their output.

May import everything.
"""

from jhpo.cli.commands import main as _main
from jhpo.cli.signals import ignore_signals


def main() -> None:
    """The command `jhpo`: once all is said, Ctrl-C does not change the exit code any more."""
    try:
        _main()
    finally:
        ignore_signals()
