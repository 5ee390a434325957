"""`python -m jhpo`: the command line."""

from jhpo.cli.commands import main

if __name__ == "__main__":
    main()
