"""Run the command line: ``python -m penna``."""

from penna.cli.main import main

if __name__ == "__main__":
    main()
