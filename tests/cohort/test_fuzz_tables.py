"""Damaged tables, JSON and YAML: a result or a named error, and nothing else.

`make fuzz` tries for ten minutes.
"""

import inspect
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import published
import pytest
from fuzzing import EXAMPLES, damaged, edits, few, survives
from hypothesis import given
from hypothesis import strategies as st

from causalcxr import Cohort, Graph
from causalcxr.apps.export.exporting import export
from causalcxr.sources import harmonise
from causalcxr.sources.label_maps import LabelMap
from causalcxr.sources.store.spec import Spec

SETS = sorted(
    name
    for name, write in inspect.getmembers(published, inspect.isfunction)
    if write.__module__ == "published" and list(inspect.signature(write).parameters) == ["folder"]
)
SPEC = """
output: stores/chest
size: 512
sources:
  - {source: nih, path: data/nih}
  - {path: data/padchest, policy: {laterals: drop}, options: {unlisted: N}}
policy: {uncertain: u_zeros}
splits: {published: keep, train: .88, val: .03, test: .09}
"""
LABELS = """
source: ours
labels:
  effusion: {is: Pleural Effusion, why: the same finding under its short name}
  nodule: {is: [Lung Lesion, Lung Opacity], why: it is both}
  hernia: {is: abnormal, why: none of the findings}
"""


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> Path:
    """Every published format, whole."""
    folder = tmp_path_factory.mktemp("sets")
    for name in SETS:
        getattr(published, name)(folder / name)
    return folder


@pytest.mark.parametrize("name", SETS)
@given(changes=edits, which=st.integers(0, 100))
@few(max(6, EXAMPLES // 4))
def test_damaged_data_set_gives_rows_or_a_named_error(sets, tmp_path, name, changes, which):
    folder = tmp_path / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sets / name, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    file = files[which % len(files)]
    file.write_bytes(damaged(file.read_bytes(), changes))
    survives(lambda: harmonise(folder, name=name))


@given(changes=edits, which=st.integers(0, 1))
@few()
def test_damaged_csv_gives_a_cohort_or_a_named_error(tmp_path, changes, which):
    nih = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
        "00000001_000.png,Cardiomegaly|Mass,0,1,58,M,PA,2682,2749,0.143,0.143,\n"
        "00000002_000.png,No Finding,0,2,060Y,F,AP,2500,2048,0.168,0.168,\n"
    )
    plain = "record,patient,split,Age,Sex,code\na,1,train,61,F,007\nb,1,train,,M,1\n"
    path = tmp_path / ("Data_Entry_2017_v2020.csv" if which else "table.csv")
    path.write_bytes(damaged((nih if which else plain).encode(), changes))
    survives(lambda: Cohort.load(path))


@pytest.mark.parametrize("name", ["cxr7", "nih", "mini"])
@given(changes=edits)
@few(max(10, EXAMPLES // 2))
def test_damaged_graph_gives_a_graph_or_a_named_error(tmp_path, name, changes):
    whole = (Path(__file__).parents[2] / f"graphs/{name}.yaml").read_bytes()
    path = tmp_path / "g.yaml"
    path.write_bytes(damaged(whole, changes))
    survives(lambda: Graph.load(path))


@given(changes=edits)
@few()
def test_damaged_specification_is_read_or_gives_a_named_error(tmp_path, changes):
    path = tmp_path / "spec.yaml"
    path.write_bytes(damaged(SPEC.encode(), changes))
    survives(lambda: Spec.load(path))


@given(changes=edits)
@few()
def test_damaged_label_map_is_read_or_gives_a_named_error(tmp_path, changes):
    path = tmp_path / "labels.yaml"
    path.write_bytes(damaged(LABELS.encode(), changes))
    survives(lambda: LabelMap.read(path))


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A saved cohort of two synthetic images, and its twin as a store."""
    table = pd.DataFrame({"Age": [61.5, 47.0], "Sex": ["F", None]}, index=["a", "b"])
    cohort = Cohort(table, np.eye(4)[None].repeat(2, axis=0), source="phantom")
    folder = tmp_path_factory.mktemp("saved")
    cohort.save(folder / "cohort")
    if _has_arrow():
        from causalcxr.sources.store.writing import write

        write(cohort, folder / "store")
    return folder


def _has_arrow() -> bool:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("name", ["cohort", "store"])
@given(changes=edits, which=st.integers(0, 100))
@few(max(10, EXAMPLES // 2))
def test_damaged_cohort_or_store_is_read_or_gives_a_named_error(
    saved, tmp_path, name, changes, which
):
    if not (saved / name).is_dir():
        pytest.skip("pyarrow is not here")
    folder = tmp_path / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(saved / name, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    file = files[which % len(files)]
    file.write_bytes(damaged(file.read_bytes(), changes))

    def read() -> None:
        loaded = Cohort.load(folder)
        loaded.images[:]

    survives(read)


@given(changes=edits, which=st.integers(0, 2))
@few(max(10, EXAMPLES // 4))
def test_damaged_folder_is_exported_or_gives_a_named_error(saved, tmp_path, changes, which):
    folder, out = tmp_path / "cohort", tmp_path / "out"
    for each in (folder, out, tmp_path / ".out.unfinished"):
        shutil.rmtree(each, ignore_errors=True)
    shutil.copytree(saved / "cohort", folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    file = files[which % len(files)]
    file.write_bytes(damaged(file.read_bytes(), changes))
    told = survives(lambda: export(folder, out))
    assert out.exists() != bool(told)  # whole or not at all
