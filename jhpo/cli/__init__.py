"""The command line: `tune`, `show`, `strategies`, `repair`, and their output.

May import everything.
"""

from jhpo.background import interrupted_with
from jhpo.cli.signals import INTERRUPTED, held, ignore_signals, leave


def main() -> None:
    """The command `jhpo`: once all is said, Ctrl-C does not change the exit code any more."""
    try:
        with held():  # half of the time until a command begins
            from jhpo.cli.commands import main as run
        run()
    except KeyboardInterrupt:
        interrupted_with(INTERRUPTED)
        leave()
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            interrupted_with(INTERRUPTED)
        raise
    finally:
        ignore_signals()
