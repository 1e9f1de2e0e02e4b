"""What every test shares: one thread, so that busy machines do not slow small products down a hundredfold."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data, or a skip where it is absent."""
    folder = Path(os.environ.get("CAUSALCXR_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real data are not here")
    return folder
