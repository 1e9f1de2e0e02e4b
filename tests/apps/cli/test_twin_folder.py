"""Twins in a folder: what is promised is there, and a job that was killed goes on."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from changing_images import with_effects
from PIL import Image

from causalcxr import SCM, Cohort, Graph, Shift, Variable, do
from causalcxr.apps.cli import twin_folder
from causalcxr.apps.cli.twin_folder import TwinJob, write_twins
from causalcxr.common.errors import CohortError, InterventionError
from causalcxr.images.synthetic_mark import MARK

RADIT = {"kind": "radit", "resolution": 32, "steps": 3, "solver_steps": 2, "batch": 4}
GRAPH = Graph(
    [
        Variable("Age", "continuous", unit="year", range=(0, 105), resolution=1),
        Variable("Sex", "binary", levels=("F", "M")),
        Variable("Cardiomegaly", "binary", parents=("Age", "Sex")),
        Variable("Image", "image", parents=("Sex", "Cardiomegaly"), mechanism=RADIT),
    ],
    name="films",
)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return Cohort.load("phantom", n=100, seed=0, size=32)


@pytest.fixture(scope="module")
def model(cohort) -> SCM:
    return with_effects(SCM(GRAPH).fit(cohort))


@pytest.fixture
def job(model, cohort) -> TwinJob:
    return TwinJob(model, cohort.head(12), do(sex="M", age=Shift(5)), seed=1)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_given_a_job_then_table_pairs_images_and_manifest_are_written(job, tmp_path):
    result = write_twins(job, tmp_path / "twins")
    found = contents(tmp_path / "twins")
    images = {name for name in found if name.startswith("images/")}
    assert set(found) - images == {"twins.csv", "pairs.png", "manifest.json", "SHA256SUMS"}
    assert set(result.files) == {"twins.csv", "pairs.png", "images", "manifest.json"}
    assert len(images) == 24
    manifest = json.loads(found["manifest.json"])
    assert manifest["kind"] == "causalcxr twins"
    assert manifest["mark"] == MARK
    assert manifest["graph_hash"] == GRAPH.hash
    assert manifest["intervention"]["do"] == {"Sex": "M", "Age": {"shift": 5.0}}
    assert manifest["coupling"] == {"Sex": "monotone", "Cardiomegaly": "monotone"}
    assert (manifest["seed"], manifest["draws"], manifest["records"]) == (1, 1, 12)
    assert set(manifest["mechanisms"]) == set(GRAPH.variables)
    assert manifest["versions"]["causalcxr"]
    assert manifest["changed"]["Age"] == {"changed": 12, "what": "+5.0"}


def test_given_a_job_then_the_table_holds_the_records_and_their_twins(job, model, tmp_path):
    write_twins(job, tmp_path / "twins")
    table = pd.read_csv(
        tmp_path / "twins" / "twins.csv", index_col="record", keep_default_na=False
    )
    before = job.cohort.table
    after = model.counterfactual(job.cohort, do(sex="M", age=Shift(5)), seed=1).table
    for name in before:
        assert (table[f"{name} (factual)"].to_numpy() == before[name].to_numpy()).all()
        assert (table[f"{name} (counterfactual)"].to_numpy() == after[name].to_numpy()).all()
    women = before["Sex"] == "F"
    told = table["changed"]
    assert told[women.to_numpy()].str.contains("Sex F -> M").all()
    assert not told[~women.to_numpy()].str.contains("Sex").any()
    age = before["Age"].iloc[0]
    assert told.iloc[0].startswith(f"Age {age} -> {age + 5}")


def test_given_a_job_then_images_are_16_bit_and_synthetic_ones_say_so(job, model, tmp_path):
    write_twins(job, tmp_path / "twins")
    table = pd.read_csv(tmp_path / "twins" / "twins.csv", index_col="record")
    twins = model.counterfactual(job.cohort, do(sex="M", age=Shift(5)), seed=1)
    sides = {"factual image": job.cohort, "twin image": twins}
    for side, cohort in sides.items():
        for k, name in enumerate(table[side]):
            with Image.open(tmp_path / "twins" / name) as image:
                assert image.mode == "I;16"
                assert image.text["Comment"] == MARK  # phantoms are synthetic on either side
                levels = np.asarray(image).astype(np.float64)
            assert np.abs(levels / 65535 - cohort.images[k][0, 0]).max() < 1e-5


def test_given_real_patients_then_only_the_twin_is_marked(model, cohort, tmp_path):
    real = Cohort(cohort.table.head(3), cohort.images[:3], source="nih")
    told = [c.images.synthetic.tolist() for c in (real, cohort.head(2), model.sample(1))]
    assert told == [[False] * 3, [True] * 2, [True]]
    result = write_twins(TwinJob(model, real, do(sex="M")), tmp_path / "twins")
    written = pd.read_csv(tmp_path / "twins/twins.csv")
    women = (real.table["Sex"] == "F").tolist()
    assert set(women) == {True, False}  # a man is his own twin, and his image stays his own
    for side, marked in (("factual image", [False] * 3), ("twin image", women)):
        for name, mark in zip(written[side], marked, strict=True):
            with Image.open(tmp_path / "twins" / name) as image:
                assert ("Comment" in image.text) == mark
    own = 3 - sum(women)
    assert json.loads((tmp_path / "twins/manifest.json").read_text())["own_images"] == own
    assert result.notes[-1].startswith(f"{own} of 3 twins' images equal the patient's own")


@pytest.mark.parametrize(
    "lost",
    [
        "some images",
        pytest.param("everything but the job", marks=pytest.mark.slow),
        pytest.param("nothing", marks=pytest.mark.slow),
    ],
)
def test_given_a_killed_job_when_run_again_then_it_ends_as_if_it_had_not_been(
    job, tmp_path, monkeypatch, lost
):
    whole = write_twins(job, tmp_path / "whole")
    folder, real, calls = tmp_path / "twins", twin_folder._write_png, []

    def dies(path, image, *, synthetic):
        calls.append(path)
        if len(calls) == 17:
            raise KeyboardInterrupt
        real(path, image, synthetic=synthetic)

    monkeypatch.setattr(twin_folder, "_write_png", dies)
    with pytest.raises(KeyboardInterrupt):
        write_twins(job, folder)
    assert not folder.exists()
    monkeypatch.undo()
    images = tmp_path / ".twins.unfinished" / "result" / "images"
    for path in sorted(images.iterdir()) if lost != "nothing" else ():
        if lost == "everything but the job" or path.stem.endswith("twin"):
            path.unlink()
    again = write_twins(job, folder)
    assert again.changed == whole.changed
    one, two = contents(tmp_path / "whole"), contents(folder)
    manifests = [json.loads(c.pop("manifest.json")) for c in (one, two)]
    assert one == two
    assert [m.pop("date") for m in manifests]
    assert manifests[0] == manifests[1]


def killed_before_the_end(job, folder, monkeypatch):
    """Run a job that dies when all images are written and the manifest is not."""

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(twin_folder, "_manifest", dies)
    with pytest.raises(KeyboardInterrupt):
        write_twins(job, folder)
    monkeypatch.undo()


def test_given_a_killed_job_after_all_images_then_none_is_computed_again(
    job, tmp_path, monkeypatch
):
    folder = tmp_path / "twins"
    killed_before_the_end(job, folder, monkeypatch)
    monkeypatch.setattr(twin_folder, "_write_png", lambda *a, **k: pytest.fail("written again"))
    write_twins(job, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["twins"]


def test_given_the_unfinished_work_of_another_job_then_it_is_refused_or_starts_anew(
    job, model, cohort, tmp_path, monkeypatch
):
    folder = tmp_path / "twins"
    killed_before_the_end(job, folder, monkeypatch)
    table = job.cohort.table  # the same records with another value
    table["Cardiomegaly"] = "P"
    other = TwinJob(model, Cohort(table, job.cohort.images, source="phantom"), job.action, seed=1)
    with pytest.raises(CohortError, match=r"unfinished work here \(another cohort; .*--overwrite"):
        write_twins(other, folder)
    write_twins(other, folder, overwrite=True)
    write_twins(other, tmp_path / "fresh")
    one, two = contents(tmp_path / "fresh"), contents(folder)
    for found in (one, two):
        found.pop("manifest.json")
    assert one == two


def test_given_earlier_twins_then_they_are_replaced_and_nothing_of_them_stays(
    job, model, tmp_path
):
    folder = tmp_path / "twins"
    write_twins(job, folder)
    few = TwinJob(model, job.cohort.head(2), do(sex="F"), with_images=1)
    with pytest.raises(CohortError, match=r"holds twins already \(.*or --overwrite"):
        write_twins(few, folder)
    assert len(list((folder / "images").iterdir())) == 24
    write_twins(few, folder, overwrite=True)
    assert len(list((folder / "images").iterdir())) == 2
    assert len(pd.read_csv(folder / "twins.csv")) == 2
    table_only = TwinJob(model, job.cohort.head(2).with_images(None), do(sex="F"))
    files = write_twins(table_only, folder, overwrite=True).files
    assert set(files) == {"twins.csv", "manifest.json"}
    assert set(contents(folder)) == {"twins.csv", "manifest.json", "SHA256SUMS"}


@pytest.mark.parametrize("other", ["notes.txt", "manifest.json"])
def test_given_a_folder_of_something_else_then_it_is_left_as_it_is(job, tmp_path, other):
    (tmp_path / other).write_text('{"kind": "causalcxr cohort"}')
    with pytest.raises(CohortError, match="holds something else than twins; give another folder"):
        write_twins(job, tmp_path)
    assert list(contents(tmp_path)) == [other]


def test_given_what_is_refused_or_a_file_for_a_folder_then_one_line_and_no_trace(job, tmp_path):
    refused = TwinJob(job.model, job.cohort, do(age=Shift(300)))
    with pytest.raises(InterventionError, match="outside the range"):
        write_twins(refused, tmp_path / "twins")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CohortError, match="holds something else than twins"):
        write_twins(job, tmp_path / "file")


def test_given_a_full_disk_then_one_line_and_the_job_can_go_on(job, tmp_path, monkeypatch):
    def full(path, image, *, synthetic):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(twin_folder, "_write_png", full)
    with pytest.raises(CohortError, match=r"cannot be written \(No space left on device\)$"):
        write_twins(job, tmp_path / "twins")
    monkeypatch.undo()
    assert len(write_twins(job, tmp_path / "twins").compared) == 12


def test_given_draws_and_odd_ids_then_each_row_has_files_of_its_own(model, cohort, tmp_path):
    table = cohort.table.head(3)
    table.index = ["../up.png", "a b", "a_b"]
    patients = Cohort(table, cohort.images[:3])
    write_twins(TwinJob(model, patients, do(sex="M"), draws=2), tmp_path / "twins")
    written = pd.read_csv(tmp_path / "twins" / "twins.csv")
    assert written["draw"].tolist() == [0, 1] * 3
    assert written["record"].tolist()[::2] == ["../up.png", "a b", "a_b"]
    files = pd.concat([written["factual image"], written["twin image"]])
    assert files.is_unique
    assert all((tmp_path / "twins" / name).is_file() for name in files)
    assert len(list((tmp_path / "twins" / "images").iterdir())) == 12


def same_but_the_date(one: Path, two: Path) -> bool:
    found = [contents(folder) for folder in (one, two)]
    manifests = [json.loads(each.pop("manifest.json")) for each in found]
    assert all(manifest.pop("date") for manifest in manifests)
    return found[0] == found[1] and manifests[0] == manifests[1]


def test_given_two_processes_then_the_same_files_as_with_one(model, cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(twin_folder, "_KEPT", 0)  # as for a job too large to hold its images
    job = TwinJob(model, cohort.head(100), do(sex="M", age=Shift(5)), seed=1)
    write_twins(job, tmp_path / "one")
    write_twins(job, tmp_path / "two", workers=2)
    assert same_but_the_date(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_given_a_cluster_of_two_workers_then_the_same_files_as_here(model, cohort, tmp_path):
    distributed = pytest.importorskip("distributed")
    job = TwinJob(model, cohort.head(100), do(sex="M"), seed=1)
    write_twins(job, tmp_path / "here")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0
    ) as cluster:
        write_twins(job, tmp_path / "there", cluster=cluster.scheduler_address)
    assert same_but_the_date(tmp_path / "here", tmp_path / "there")
