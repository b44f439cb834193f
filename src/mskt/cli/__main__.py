"""``python -m mskt.cli``: the command without its script."""

from __future__ import annotations

from mskt.cli import main

main()
