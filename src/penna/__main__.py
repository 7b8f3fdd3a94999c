"""``python -m penna`` is ``penna``."""

from penna.cli.main import main

if __name__ == "__main__":
    main()
