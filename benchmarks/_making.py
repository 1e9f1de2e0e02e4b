"""Making one table, and telling where and when it was made."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import stopwatch

__all__ = ["commit", "machine", "made"]

_HERE = Path(__file__).parent


def machine() -> str:
    """Return what the figures were measured on."""
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}"


def commit() -> str:
    """Return the commit that is checked out, with a + where files differ from it."""

    def told(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=_HERE, capture_output=True, text=True)
        return done.stdout.strip() if not done.returncode else ""

    return told("rev-parse", "--short", "HEAD") + ("+" if told("status", "--porcelain") else "")


def made(name: str, quick: bool) -> dict[str, Any]:
    """Make a table, and tell where and when."""
    with stopwatch() as watch:
        rows = import_module(f"benchmarks.{name}").main(quick)
    about = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit()}
    if hasattr(os, "getloadavg"):
        about["load"] = round(os.getloadavg()[0], 1)
    return {**about, "machine": machine(), "seconds": round(watch.seconds, 1), "rows": rows}
