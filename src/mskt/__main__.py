"""``python -m mskt``: the command line."""

from __future__ import annotations

from mskt.cli import main

if __name__ == "__main__":
    main()
