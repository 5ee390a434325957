"""The command line: `tune`, `show`, `strategies`, `repair`, and their output.

May import everything.
"""

from jhpo.cli.signals import held, ignore_signals, leave


def main() -> None:
    """The command `jhpo`: once all is said, Ctrl-C does not change the exit code any more."""
    try:
        with held():  # half of the time until a command begins
            from jhpo.cli.commands import main as run
        run()
    except KeyboardInterrupt:
        leave()
    finally:
        ignore_signals()
