"""The command line: `tune`, `show`, `strategies`, `repair`, and how they print.

May import everything.
"""

from jhpo.cli.commands import main as main
