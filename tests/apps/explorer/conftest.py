"""Fixtures of the explorer's tests: one model, one cohort and one server for all."""

import signal

import pytest
from explorers import Served, written_world

ARGUMENTS = ("small", "patients", "hostile.csv")


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A folder with a model and cohorts, and a server; a test that stops it must replace it.

    At the end SIGTERM must stop the server cleanly, without output other than NiceGUI's own.
    """
    folder = written_world(tmp_path_factory.mktemp("world"))
    world = {"folder": folder, "server": Served(folder, *ARGUMENTS)}
    yield world
    code, output = world["server"].stop(signal.SIGTERM)
    assert code in (0, -signal.SIGTERM)
    # NiceGUI reports missing paths, and slow updates on a busy machine.
    lines = [line for line in output.splitlines() if not line.startswith("binding propagation")]
    assert [line for line in lines if not line.endswith(" not found")] == []
