"""`python -m jhpo.cli`."""

from jhpo.cli.commands import main

if __name__ == "__main__":
    main()
