"""Make one table, and record where and when it was made."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import stopwatch

__all__ = ["commit", "machine", "make_table"]

_HERE = Path(__file__).parent


def machine() -> str:
    """Return a description of this machine."""
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}"


def commit() -> str:
    """Return the commit that is checked out, followed by + if files differ from it."""

    def git(*arguments: str) -> str:
        result = subprocess.run(["git", *arguments], cwd=_HERE, capture_output=True, text=True)
        return result.stdout.strip() if not result.returncode else ""

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")


def make_table(name: str, quick: bool) -> dict[str, Any]:
    """Make a table, and record where and when."""
    with stopwatch() as watch:
        rows = import_module(f"benchmarks.{name}").main(quick)
    record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit()}
    if hasattr(os, "getloadavg"):
        record["load"] = round(os.getloadavg()[0], 1)
    return {**record, "machine": machine(), "seconds": round(watch.seconds, 1), "rows": rows}
