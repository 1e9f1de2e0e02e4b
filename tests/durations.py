"""Which tests are long: `make durations` writes the list, `make test-fast` leaves them out.

A line of `durations.txt` is a test function or a fixture; tests that need such a fixture are long
too. Times are sums over the parameters of a function, on one core.
"""

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

LIST = Path(__file__).with_name("durations.txt")
LIMIT = 0.2  # seconds
_spent: dict[str, float] = defaultdict(float)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the long tests as `medium`."""
    long = set(LIST.read_text(encoding="utf-8").splitlines()) if LIST.exists() else set()
    for item in items:
        if _function(item.nodeid) in long or not long.isdisjoint(_fixtures(item)):
            item.add_marker(pytest.mark.medium)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any) -> Iterator[None]:
    """Measure the setup of a fixture, without that of the fixtures that it needs."""
    start = time.perf_counter()
    try:
        return (yield)
    finally:
        _spent[f"{fixturedef.baseid}::{fixturedef.argname}"] += time.perf_counter() - start


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Measure the call of a test."""
    if report.when == "call":
        _spent[_function(report.nodeid)] += report.duration


def pytest_sessionfinish() -> None:
    """Write the list, if it was asked for: a worker its part, the main process the whole."""
    if not os.environ.get("CAUSALCXR_DURATIONS"):
        return
    long = {name for name, seconds in _spent.items() if seconds > LIMIT}
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:  # The workers have ended.
        for part in LIST.parent.glob("durations.gw*"):
            long |= set(part.read_text(encoding="utf-8").splitlines())
            part.unlink()
    place = LIST if worker is None else LIST.with_suffix(f".{worker}")
    place.write_text("\n".join(sorted(long)) + "\n", encoding="utf-8")


def _function(nodeid: str) -> str:
    return nodeid.partition("[")[0]


def _fixtures(item: pytest.Item) -> Iterator[str]:
    """Yield every fixture that a test needs, directly or not."""
    info = getattr(item, "_fixtureinfo", None)
    for name, definitions in (info.name2fixturedefs if info else {}).items():
        yield f"{definitions[-1].baseid}::{name}"
