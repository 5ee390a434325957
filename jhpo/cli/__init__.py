"""The command line: `tune`, `show`, `strategies`, `repair`, and their output.

May import everything.
"""

from jhpo.cli.commands import main as main
