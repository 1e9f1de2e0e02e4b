"""Twins in a folder: its files and their content, and resuming a job that was killed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from changing_images import with_effects
from PIL import Image

from causalcxr import SCM, Cohort, Graph, Shift, Variable, do
from causalcxr.apps.cli import twin_folder, twin_images
from causalcxr.apps.cli.twin_folder import TwinResult, write_twins
from causalcxr.apps.cli.twin_job import TwinJob
from causalcxr.common.errors import CohortError, InterventionError
from causalcxr.images.images import ArrayImages
from causalcxr.images.synthetic_mark import MARK

N = 6  # records of the job, women and men among them
RADIT = {"kind": "radit", "resolution": 8, "steps": 3, "solver_steps": 1, "batch": 4}
GRAPH = Graph(
    [
        Variable("Age", "continuous", unit="year", range=(0, 105), resolution=1),
        Variable("Sex", "binary", levels=("F", "M")),
        Variable("Cardiomegaly", "binary", parents=("Age", "Sex")),
        Variable("Image", "image", parents=("Sex", "Cardiomegaly"), mechanism=RADIT),
    ],
    name="tiny",
)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    """Phantoms with images of 8 x 8 pixels."""
    phantoms = Cohort.load("phantom", n=100, seed=0, size=32)
    images = ArrayImages(phantoms.images[:][:, :, ::4, ::4], synthetic=True)
    return Cohort(phantoms.table, images, source="phantom")


@pytest.fixture(scope="module")
def model(cohort) -> SCM:
    return with_effects(SCM(GRAPH).fit(cohort))


@pytest.fixture(scope="module")
def job(model, cohort) -> TwinJob:
    return TwinJob(model, cohort.head(N), do(sex="M", age=Shift(5)), seed=1, pairs=2)


@pytest.fixture(scope="module")
def written(job, tmp_path_factory) -> tuple[TwinResult, Path]:
    """The twins of the job, and their folder."""
    folder = tmp_path_factory.mktemp("written") / "twins"
    return write_twins(job, folder), folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def same_but_the_date(one: Path, two: Path) -> bool:
    files = [contents(folder) for folder in (one, two)]
    manifests = [json.loads(each.pop("manifest.json")) for each in files]
    assert all(manifest.pop("date") for manifest in manifests)
    return files[0] == files[1] and manifests[0] == manifests[1]


def test_table_pairs_images_and_manifest_are_written(written):
    result, folder = written
    files = contents(folder)
    images = {name for name in files if name.startswith("images/")}
    assert set(files) - images == {"twins.csv", "pairs.png", "manifest.json", "SHA256SUMS"}
    assert set(result.files) == {"twins.csv", "pairs.png", "images", "manifest.json"}
    assert len(images) == 2 * N
    manifest = json.loads(files["manifest.json"])
    assert manifest["kind"] == "causalcxr twins"
    assert manifest["mark"] == MARK
    assert manifest["graph_hash"] == GRAPH.hash
    assert manifest["intervention"]["do"] == {"Sex": "M", "Age": {"shift": 5.0}}
    couplings = {"Sex": "monotone", "Cardiomegaly": "monotone", "Image": "inversion"}
    assert manifest["coupling"] == couplings
    assert (manifest["seed"], manifest["draws"], manifest["records"]) == (1, 1, N)
    assert set(manifest["mechanisms"]) == set(GRAPH.variables)
    assert manifest["versions"]["causalcxr"]
    assert manifest["changed"]["Age"] == {"changed": N, "what": "+5.0"}


def test_the_table_holds_the_records_and_their_twins(job, model, written):
    _, folder = written
    table = pd.read_csv(folder / "twins.csv", index_col="record", keep_default_na=False)
    before = job.cohort.table
    after = model.counterfactual(job.cohort, do(sex="M", age=Shift(5)), seed=1).table
    for name in before:
        assert (table[f"{name} (factual)"].to_numpy() == before[name].to_numpy()).all()
        assert (table[f"{name} (counterfactual)"].to_numpy() == after[name].to_numpy()).all()
    women = before["Sex"] == "F"
    changes = table["changed"]
    assert changes[women.to_numpy()].str.contains("Sex F -> M").all()
    assert not changes[~women.to_numpy()].str.contains("Sex").any()
    age = before["Age"].iloc[0]
    assert changes.iloc[0].startswith(f"Age {age} -> {age + 5}")


def test_images_have_16_bits_and_synthetic_ones_a_mark(job, model, written):
    _, folder = written
    table = pd.read_csv(folder / "twins.csv", index_col="record")
    twins = model.counterfactual(job.cohort, do(sex="M", age=Shift(5)), seed=1)
    sides = {"factual image": job.cohort, "twin image": twins}
    for side, cohort in sides.items():
        images = cohort.images[:]
        for k, name in enumerate(table[side]):
            with Image.open(folder / name) as image:
                assert image.mode == "I;16"
                assert image.text["Comment"] == MARK  # phantoms are synthetic on either side
                levels = np.asarray(image).astype(np.float64)
            assert np.abs(levels / 65535 - images[k, 0]).max() < 1e-5


def test_of_real_patients_only_the_twins_are_marked(model, cohort, tmp_path):
    real = Cohort(cohort.table.head(3), cohort.images[:3], source="nih")
    marks = [c.images.synthetic.tolist() for c in (real, cohort.head(2), model.sample(1))]
    assert marks == [[False] * 3, [True] * 2, [True]]
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
    assert result.notes[0].startswith("coupling of the images, which is assumed: inversion, ")
    assert result.notes[-1].startswith(f"{own} of 3 twins' images equal the patient's own")


@pytest.mark.parametrize(
    "lost",
    [
        "some images",
        pytest.param("everything but the job", marks=pytest.mark.slow),
        pytest.param("nothing", marks=pytest.mark.slow),
    ],
)
def test_a_killed_job_is_resumed_with_the_same_result(job, written, tmp_path, monkeypatch, lost):
    result, complete = written
    folder, real, calls = tmp_path / "twins", twin_images._write_png, []

    def dies(path, image, *, synthetic):
        calls.append(path)
        if len(calls) == N + 3:
            raise KeyboardInterrupt
        real(path, image, synthetic=synthetic)

    monkeypatch.setattr(twin_images, "_write_png", dies)
    with pytest.raises(KeyboardInterrupt):
        write_twins(job, folder)
    assert not folder.exists()
    monkeypatch.undo()
    images = tmp_path / ".twins.unfinished" / "result" / "images"
    for path in sorted(images.iterdir()) if lost != "nothing" else ():
        if lost == "everything but the job" or path.stem.endswith("twin"):
            path.unlink()
    again = write_twins(job, folder)
    assert again.changed == result.changed
    assert same_but_the_date(complete, folder)


def killed_before_the_end(job, folder, monkeypatch):
    """Run a job that dies when all images are written and the manifest is not."""

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(twin_folder, "_manifest", dies)
    with pytest.raises(KeyboardInterrupt):
        write_twins(job, folder)
    monkeypatch.undo()


def test_a_resumed_job_computes_no_image_again(job, tmp_path, monkeypatch):
    folder = tmp_path / "twins"
    killed_before_the_end(job, folder, monkeypatch)
    monkeypatch.setattr(twin_images, "_write_png", lambda *a, **k: pytest.fail("written again"))
    write_twins(job, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["twins"]


@pytest.mark.slow
def test_unfinished_work_of_another_job_is_refused_or_replaced(job, model, tmp_path, monkeypatch):
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
    for files in (one, two):
        files.pop("manifest.json")
    assert one == two


def test_earlier_twins_are_replaced_completely(job, model, written, tmp_path):
    folder = tmp_path / "twins"
    shutil.copytree(written[1], folder)
    few = TwinJob(model, job.cohort.head(2), do(sex="F"), with_images=1)
    with pytest.raises(CohortError, match=r"holds twins already \(.*or --overwrite"):
        write_twins(few, folder)
    assert len(list((folder / "images").iterdir())) == 2 * N
    write_twins(few, folder, overwrite=True)
    assert len(list((folder / "images").iterdir())) == 2
    assert len(pd.read_csv(folder / "twins.csv")) == 2
    table_only = TwinJob(model, job.cohort.head(2).with_images(None), do(sex="F"))
    files = write_twins(table_only, folder, overwrite=True).files
    assert set(files) == {"twins.csv", "manifest.json"}
    assert set(contents(folder)) == {"twins.csv", "manifest.json", "SHA256SUMS"}


@pytest.mark.parametrize("other", ["notes.txt", "manifest.json"])
def test_a_folder_of_something_else_is_left_unchanged(job, tmp_path, other):
    (tmp_path / other).write_text('{"kind": "causalcxr cohort"}')
    with pytest.raises(CohortError, match="holds something else than twins; give another folder"):
        write_twins(job, tmp_path)
    assert list(contents(tmp_path)) == [other]


def test_a_refused_job_leaves_no_files(job, tmp_path):
    refused = TwinJob(job.model, job.cohort, do(age=Shift(300)))
    with pytest.raises(InterventionError, match="outside the range"):
        write_twins(refused, tmp_path / "twins")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CohortError, match="holds something else than twins"):
        write_twins(job, tmp_path / "file")


def test_a_job_is_resumed_after_a_full_disk(job, tmp_path, monkeypatch):
    def full(path, image, *, synthetic):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(twin_images, "_write_png", full)
    with pytest.raises(CohortError, match=r"cannot be written \(No space left on device\)$"):
        write_twins(job, tmp_path / "twins")
    monkeypatch.undo()
    assert len(write_twins(job, tmp_path / "twins").compared) == N


def test_each_draw_of_records_with_odd_ids_has_its_own_files(model, cohort, tmp_path):
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


@pytest.mark.slow
def test_two_processes_write_the_same_files_as_one(job, written, tmp_path, monkeypatch):
    monkeypatch.setattr(twin_images, "_KEPT", 0)  # as for a job too large to hold its images
    monkeypatch.setattr(twin_images, "_BATCH", N // 2)
    write_twins(job, tmp_path / "two", workers=2)
    assert same_but_the_date(written[1], tmp_path / "two")


@pytest.mark.slow
def test_a_cluster_of_two_workers_writes_the_same_files(model, cohort, tmp_path):
    distributed = pytest.importorskip("distributed")
    job = TwinJob(model, cohort.head(100), do(sex="M"), seed=1)
    write_twins(job, tmp_path / "here")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0
    ) as cluster:
        write_twins(job, tmp_path / "there", cluster=cluster.scheduler_address)
    assert same_but_the_date(tmp_path / "here", tmp_path / "there")
