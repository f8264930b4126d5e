"""`python -m pantry`: the command line."""

from pantry.cli import main

if __name__ == "__main__":
    main()
