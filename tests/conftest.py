"""What tests share: one thread, as busy machines slow small products down a hundredfold."""

import os
from pathlib import Path

import pytest
import torch
from durations import (  # noqa: F401
    pytest_collection_modifyitems,
    pytest_fixture_setup,
    pytest_runtest_logreport,
    pytest_sessionfinish,
)
from filelock import FileLock

import causalcxr as cx
from causalcxr.images.images import ArrayImages

os.environ.setdefault("CAUSALCXR_PROGRESS", "off")  # machines that are busy say nothing either

torch.set_num_threads(1)

# They hold no tests or doctests; several modules of one name cannot be collected.
collect_ignore_glob = ["*conftest.py"]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data, or a skip where it is absent."""
    folder = Path(os.environ.get("CAUSALCXR_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real data are not here")
    return folder


@pytest.fixture(scope="session")
def phantoms() -> cx.Cohort:
    """2,000 phantoms without images; race is missing for a third, age for a twentieth."""
    cohort = cx.Cohort.load("phantom", n=2000, seed=0).with_images(None)
    graph = cx.Graph.load("cxr7")
    columns = {name: column.copy() for name, column in cohort.columns(graph).items()}
    columns["Race"][::3] = float("nan")
    columns["Age"][5::20] = float("nan")
    columns["Edema"][7::50] = float("nan")
    return cohort.with_columns(graph, columns)


@pytest.fixture(scope="session")
def expert(phantoms: cx.Cohort, tmp_path_factory: pytest.TempPathFactory) -> cx.SCM:
    """The 19 tabular equations of cxr7, fitted by the first process that needs them."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all processes
    with FileLock(folder / "expert.lock"):
        if not (folder / "expert").exists():
            graph = cx.Graph.load("cxr7").without_variable("Image")
            cx.SCM(graph).fit(phantoms).save(folder / "expert")
        return cx.SCM.load(folder / "expert")


@pytest.fixture(scope="session")
def rendered_phantoms() -> cx.Cohort:
    """16 phantoms with radiographs of 32 x 32 pixels, rendered once."""
    cohort = cx.Cohort.load("phantom", n=16, seed=0, size=32)
    return cohort.with_images(ArrayImages(cohort.images[:], synthetic=True))
