"""A tool that writes one file, or checks that it would not change."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def run(description: str | None, path: Path, render: Callable[[], str]) -> int:
    """Write the file's text, or check it with ``--check``; 1 if the check fails."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args().check
    text = render()
    if not is_check:
        path.write_text(text, encoding="utf-8")
        return 0
    if path.read_text(encoding="utf-8") == text:
        return 0
    print(f"{path.name} would change", file=sys.stderr)
    return 1
