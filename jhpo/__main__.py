"""`python -m jhpo`: the command line."""

from jhpo.cli import main

if __name__ == "__main__":
    main()
