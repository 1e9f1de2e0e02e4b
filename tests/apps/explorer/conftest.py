"""Fixtures of the explorer's tests: a model and patients, written once for all servers."""

import pytest
from explorers import written_world


@pytest.fixture(scope="session")
def world_folder(tmp_path_factory):
    """A folder with a model, patients and a table of hostile names."""
    return written_world(tmp_path_factory.mktemp("world"))
