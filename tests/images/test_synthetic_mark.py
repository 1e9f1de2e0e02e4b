"""Synthetic images are marked and real ones are not, whatever happened to them on the way."""

import io
import json
import pickle
import shutil
import tempfile
import zipfile
from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from changing_images import with_effects
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from causalcxr import SCM, Cohort, Graph, Variable, do
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app
from causalcxr.apps.cli.twin_folder import write_twins
from causalcxr.apps.cli.twin_job import TwinJob
from causalcxr.apps.explorer import downloads
from causalcxr.apps.explorer.image_encoding import to_uint16
from causalcxr.apps.explorer.patients import PatientList
from causalcxr.apps.explorer.question import AbductedPatient, Question
from causalcxr.apps.explorer.uploads import Uploads
from causalcxr.apps.export.exporting import export
from causalcxr.audit.making_pairs import make_pairs
from causalcxr.audit.pairs import Pairs
from causalcxr.common.errors import CohortError
from causalcxr.images.file_images import FileImages
from causalcxr.images.images import ArrayImages
from causalcxr.images.synthetic_mark import MARK
from causalcxr.sources.store.building import build
from causalcxr.sources.store.writing import write

SIDE = 32
RADIT = {"kind": "radit", "resolution": SIDE, "steps": 2, "solver_steps": 1, "batch": 4}
GRAPH = Graph(
    [
        Variable("Age", "continuous", unit="year", range=(0, 120), resolution=1),
        Variable("Sex", "binary", levels=("F", "M")),
        Variable("Image", "image", parents=("Age", "Sex"), mechanism=RADIT),
    ],
    name="films",
)
PHANTOMS = Cohort.load("phantom", n=6, seed=3, size=SIDE)
MIXED = np.array([True, False, False, True, False, True])


@pytest.fixture(scope="module")
def idle() -> SCM:
    """A model that learned so little that its twins equal their radiographs when written."""
    return SCM(GRAPH).fit(Cohort.load("phantom", n=10, seed=0, size=SIDE))


@pytest.fixture(scope="module")
def model(idle) -> SCM:
    return with_effects(deepcopy(idle))


@pytest.fixture(scope="module")
def patients() -> Cohort:
    """Six records with real radiographs: women and men."""
    return some("real")


def some(kind: str) -> Cohort:
    """Return six records whose images are real, synthetic or mixed."""
    if kind == "synthetic":
        return PHANTOMS
    pixels = PHANTOMS.images[:]
    images = ArrayImages(pixels, synthetic=MIXED) if kind == "mixed" else pixels
    return Cohort(PHANTOMS.table, images, source="phantom limb clinic")


def is_marked(file: Path) -> bool:
    if file.suffix == ".dcm":
        return pydicom.dcmread(file).SyntheticData == "YES"
    with Image.open(file) as image:
        return image.text.get("Comment") == MARK


# What a user may do with a cohort; each returns another with images of the same kinds.


def chosen(cohort, seed, model, folder):
    rng = np.random.default_rng(seed)
    return cohort.at(np.sort(rng.choice(len(cohort), rng.integers(1, len(cohort) + 1), False)))


def repeated(cohort, seed, model, folder):
    return cohort.repeat(2) if cohort.index.nlevels == 1 else cohort


def described(cohort, seed, model, folder):
    return cohort.described(["my study", "phantom", "model", "x, counterfactual"][seed % 4])


def built_again(cohort, seed, model, folder):
    return Cohort(cohort.table, cohort.images)


def with_other_pixels(cohort, seed, model, folder):
    return cohort.with_images(cohort.images.with_pixels(1 - (1 - cohort.images[:])))


def in_memory(cohort, seed, model, folder):
    return cohort.with_images(cohort.images.in_memory())


def sent_to_a_process(cohort, seed, model, folder):
    images = cohort.images
    travels = isinstance(images, ArrayImages | FileImages)
    return cohort.with_images(pickle.loads(pickle.dumps(images))) if travels else cohort


def saved(cohort, seed, model, folder):
    return Cohort.load(cohort.save(folder / "png"))


def saved_as_dicom(cohort, seed, model, folder):
    if cohort.images.synthetic.all():
        return Cohort.load(cohort.save(folder / "dicom", images="dicom"))
    with pytest.raises(CohortError, match="only synthetic images are written as DICOM"):
        cohort.save(folder / "dicom", images="dicom")
    return cohort


def stored(cohort, seed, model, folder):
    return Cohort.load(write(cohort, folder / "store"))


def compared(cohort, seed, model, folder):
    return cohort.compare(cohort.head(3)).counterfactual


def nothing_done(cohort, seed, model, folder):
    if cohort.index.nlevels > 1:
        return cohort
    return model.counterfactual(cohort, do(sex=cohort.table["Sex"].tolist()), seed=seed)


def with_itself(cohort, seed, model, folder):
    """Put a cohort and itself into one, under other ids, as `concat` would."""
    if cohort.index.nlevels > 1:
        return cohort
    again = cohort.table.set_axis([f"{record}#{seed}" for record in cohort.records])
    table = pd.concat([cohort.table.set_axis(cohort.records.astype(str)), again])
    pixels, made = (np.concatenate([x, x]) for x in (cohort.images[:], cohort.images.synthetic))
    return Cohort(table, ArrayImages(pixels, synthetic=made)).loc[table.index.drop_duplicates()]


STEPS = [
    chosen, repeated, described, built_again, with_other_pixels, in_memory, sent_to_a_process,
    saved, saved_as_dicom, stored, compared, nothing_done, with_itself,
]  # fmt: skip


def truth_of(cohort: Cohort, kind: str) -> list[bool]:
    """Return which images are synthetic, by the ids of their records alone."""
    known = {"real": np.zeros(6, bool), "synthetic": np.ones(6, bool), "mixed": MIXED}[kind]
    return [bool(known[int(str(record).partition("#")[0])]) for record in cohort.records]


@settings(max_examples=8, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
    kind=st.sampled_from(["real", "synthetic", "mixed"]),
    chain=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 99)), max_size=6),
)
def test_any_chain_of_steps_keeps_the_mark(model, kind, chain):
    with tempfile.TemporaryDirectory() as name:
        cohort = some(kind)
        for k, (step, seed) in enumerate(chain):
            folder = Path(name) / str(k)
            folder.mkdir()
            cohort = step(cohort, seed, model, folder)
            assert cohort.images.synthetic.tolist() == truth_of(cohort, kind)
        truth = truth_of(cohort, kind)
        end = cohort.described("phantom", "model, counterfactual").save(Path(name) / "end")
        loaded = Cohort.load(end)
        assert [is_marked(Path(path)) for path in loaded.images.paths] == truth
        assert Cohort.load(end, size=16).images.synthetic.tolist() == truth
        out = Path(name) / "out"
        if any(truth):
            assert len(export(end, out)) == sum(truth)
            assert all(is_marked(file) for file in (out / "images").glob("*.dcm"))
        else:
            with pytest.raises(CohortError, match="only synthetic ones are exported"):
                export(end, out)


# Words decide nothing


def test_pngs_of_phantoms_are_marked(tmp_path):
    renamed = PHANTOMS.described("my study").save(tmp_path / "renamed")
    rebuilt = Cohort(PHANTOMS.table, PHANTOMS.images).save(tmp_path / "rebuilt")
    for folder in (renamed, rebuilt):
        assert all(is_marked(file) for file in (folder / "images").iterdir())
        assert json.loads((folder / "manifest.json").read_text())["synthetic"] is True


def test_source_name_does_not_make_images_synthetic(patients, tmp_path):
    folder = patients.save(tmp_path / "clinic")
    assert not any(is_marked(file) for file in (folder / "images").iterdir())
    assert not Cohort.load(folder).images.synthetic.any()
    with pytest.raises(CohortError, match=r"^6 of 6 images are patients' own; only synthetic"):
        patients.save(tmp_path / "dicom", images="dicom")
    assert not (tmp_path / "dicom").exists()


def test_array_replacing_synthetic_images_is_refused(patients):
    pixels = PHANTOMS.images[:]
    with pytest.raises(CohortError, match=r"6 of the images to replace are synthetic"):
        PHANTOMS.with_images(pixels)
    assert not PHANTOMS.with_images(ArrayImages(pixels)).images.synthetic.any()
    assert PHANTOMS.with_images(PHANTOMS.images.with_pixels(pixels)).images.synthetic.all()
    assert not patients.with_images(pixels).images.synthetic.any()
    assert not PHANTOMS.with_images(None).with_images(pixels).images.synthetic.any()


@pytest.mark.parametrize("synthetic", [[True], [True] * 7, "yes", [1, 0, 0, 1, 0, 1]])
def test_synthetic_needs_one_value_for_each(synthetic):
    with pytest.raises(CohortError, match="give True or False, or one of them for each of the 6"):
        ArrayImages(PHANTOMS.images[:], synthetic=synthetic)


def test_record_without_image_is_not_synthetic(tmp_path):
    there = np.array([True, False, True, False, True, False])
    cohort = Cohort(PHANTOMS.table, ArrayImages(PHANTOMS.images[:], there, synthetic=True))
    assert cohort.images.synthetic.tolist() == there.tolist()
    loaded = Cohort.load(cohort.save(tmp_path / "c", images="dicom"))
    assert loaded.images.synthetic.tolist() == there.tolist()
    assert Cohort.load(write(loaded, tmp_path / "s")).images.synthetic.tolist() == there.tolist()


def test_synthetic_is_read_only():
    with pytest.raises(ValueError, match="read-only"):
        some("mixed").images.synthetic[0] = False


# Files say it themselves


def png(path: Path, *, text: str = "Comment", zipped: bool = False, at_end: bool = False) -> Path:
    about = PngInfo()
    about.add_text(text, MARK, zip=zipped)
    Image.fromarray(np.eye(SIDE, dtype=np.uint8)).save(path, pnginfo=about)
    if at_end:
        content = path.read_bytes()
        start = content.index(b"tEXt") - 4
        length = int.from_bytes(content[start : start + 4], "big") + 12
        chunk, end = content[start : start + length], content.index(b"IEND") - 4
        path.write_bytes(content[:start] + content[start + length : end] + chunk + content[end:])
    return path


@pytest.mark.parametrize("how", [{}, {"zipped": True}, {"text": "Title"}, {"at_end": True}])
def test_mark_of_a_png_is_never_overruled(tmp_path, how):
    marked, plain = png(tmp_path / "a.png", **how), tmp_path / "b.png"
    Image.fromarray(np.eye(SIDE, dtype=np.uint8)).save(plain)
    images = FileImages([marked, None, plain], synthetic=False)
    assert images.synthetic.tolist() == [True, False, False]
    assert images.select([2, 0]).synthetic.tolist() == [False, True]
    assert images.in_memory().synthetic.tolist() == [True, False, False]
    read = FileImages([marked, plain])
    read[:]
    assert read.synthetic.tolist() == [True, False]
    assert FileImages([plain], synthetic=True).synthetic.tolist() == [True]


def test_marked_pngs_of_a_table_are_synthetic(tmp_path):
    PHANTOMS.save(tmp_path / "saved")
    files = tmp_path / "saved/images"
    table = PHANTOMS.table.reset_index().assign(record=[f"{k}" for k in range(6)])
    table.to_csv(tmp_path / "clinic.csv", index=False)
    clinic = Cohort.load(tmp_path / "clinic.csv", images=files)
    assert clinic.images.synthetic.all()
    again = clinic.save(tmp_path / "again")
    assert all(is_marked(file) for file in (again / "images").iterdir())


def test_manifest_records_images_without_mark(tmp_path):
    folder = some("mixed").save(tmp_path / "mixed")
    for file in (folder / "images").iterdir():
        Image.fromarray(np.asarray(Image.open(file))).save(file)
    assert Cohort.load(folder).images.synthetic.tolist() == MIXED.tolist()


def test_marks_and_source_determine_old_manifests(tmp_path):
    folder = some("mixed").described("nih").save(tmp_path / "old")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["synthetic"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert Cohort.load(folder).images.synthetic.tolist() == MIXED.tolist()
    (folder / "manifest.json").write_text(json.dumps(manifest | {"source": "nih, counterfactual"}))
    assert Cohort.load(folder).images.synthetic.all()
    with pytest.raises(CohortError, match=r"0\.1\.0 did not record which of its twins"):
        export(folder, tmp_path / "out")


def test_store_records_which_images_are_synthetic(tmp_path):
    folder = some("mixed").save(tmp_path / "mixed")
    (folder / "manifest.json").unlink()  # what is left is a table beside images
    spec = f"output: store\nsize: {SIDE}\nsources:\n  - {{path: cohort.csv, options: {{images: "
    (folder / "spec.yaml").write_text(spec + "images}}\n")
    store = Cohort.load(build(folder / "spec.yaml"))
    assert store.images.synthetic.tolist() == MIXED.tolist()
    assert store.at([1, 0]).images.synthetic.tolist() == [False, True]
    assert "image synthetic" not in store.table


# Twins: what nothing changed is the patient's own


def test_unchanged_twin_image_is_the_patients_own(model, patients):
    women = (patients.table["Sex"] == "F").to_numpy()
    assert 0 < women.sum() < 6
    twins = model.counterfactual(patients, sex="M")
    assert twins.images.synthetic.tolist() == women.tolist()
    assert model.counterfactual(PHANTOMS, sex="M").images.synthetic.all()
    mixed = model.counterfactual(some("mixed"), sex="M")
    assert mixed.images.synthetic.tolist() == (women | MIXED).tolist()
    assert mixed.at([2, 0]).images.synthetic.tolist() == (women | MIXED)[[2, 0]].tolist()
    assert model.sample(2).images.synthetic.all()


def test_recomputed_null_twins_are_the_patients_own(model, patients):
    null = model.predict(model.abduct(patients), recompute=True)
    assert not null.images.synthetic.any()


def test_twins_equal_when_written_stay_real(idle, patients):
    twins = idle.counterfactual(patients, sex="M")
    assert (twins.images[:] != patients.images[:]).any()
    assert not twins.images.synthetic.any()


def test_saved_pairs_record_which_images_are_synthetic(model, patients, tmp_path):
    few = patients.head(3)
    women = (few.table["Sex"] == "F").tolist()
    assert set(women) == {True, False}
    make_pairs(model, few, do(sex="M")).save(tmp_path / "pairs")
    pairs = Pairs.load(tmp_path / "pairs")
    told = {name: c.images.synthetic.tolist() for name, c in pairs.worlds.items()}
    assert told == {"factual": [False] * 3, "twin": women, "null": [False] * 3}
    for name, cohort in pairs.worlds.items():  # a twin that is unchanged has no image of its own
        there = cohort.images.available
        marks = [is_marked(Path(path)) for path in cohort.images.paths[there]]
        assert marks == np.array(told[name])[there].tolist()


def test_page_of_pairs_marks_synthetic_images(model, patients):
    def marks(page):
        return [t.get_text() for axes in page.axes for t in axes.texts].count(MARK)

    women = patients.select("Sex == 'F'")
    twins = model.counterfactual(patients, sex="M")
    page = patients.compare(twins).plot(6)
    assert marks(page) == len(women)
    assert MARK in [text.get_text() for text in page.texts]
    own = patients.compare(patients).plot(2)
    assert marks(own) == 0
    assert MARK not in [text.get_text() for text in own.texts]
    assert marks(PHANTOMS.compare(PHANTOMS).plot(2)) == 4


# Export


@pytest.fixture(scope="module")
def written(model, patients, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "twins"
    write_twins(TwinJob(model, patients, do(sex="M")), folder)
    return folder


@pytest.fixture
def folder(written, tmp_path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "twins"))


def pairs_without_digests(folder: Path) -> np.ndarray:
    """Return the names of radiographs and twins, whose files may be changed as in old folders."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files_sha256"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return pd.read_csv(folder / "twins.csv")[["factual image", "twin image"]].to_numpy()


def test_twins_equal_to_radiographs_are_not_exported(folder, patients, tmp_path, capsys):
    women = int((patients.table["Sex"] == "F").sum())
    told = f"{6 - women} of 6 twins equal their own radiograph, they are not exported as synthetic"
    assert guarded(app, ["export", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert told in capsys.readouterr().out
    index = pd.read_csv(tmp_path / "out/index.csv")
    assert len(index) == women
    assert index["Sex"].eq("M").all()
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["not_exported"] == [told]
    for sidecar in (tmp_path / "out/images").glob("*.json"):
        assert json.loads(sidecar.read_text())["largest_change"] > 1 / 255


def test_radiograph_given_as_a_twin_is_not_exported(folder, patients, tmp_path):
    for factual, twin in pairs_without_digests(folder):
        about = PngInfo()
        about.add_text("Comment", MARK)
        Image.open(folder / factual).save(folder / twin, pnginfo=about)
    with pytest.raises(CohortError, match=r"6 of 6 twins equal their own radiograph"):
        export(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("level", "exported"), [(257, 0), (258, 6)])
def test_twins_within_one_grey_level_are_not_exported(folder, tmp_path, level, exported):
    for factual, twin in pairs_without_digests(folder):
        about = PngInfo()
        about.add_text("Comment", MARK)
        pixels = np.asarray(Image.open(folder / factual)).astype(np.int64)
        pixels[4, 4] += level if pixels[4, 4] < 60000 else -level
        Image.fromarray(pixels.astype(np.uint16)).save(folder / twin, pnginfo=about)
    if exported:
        assert len(export(folder, tmp_path / "out")) == exported
    else:
        with pytest.raises(CohortError, match="6 of 6 twins are within one grey level of 8 bits"):
            export(folder, tmp_path / "out")


def test_unchanged_twins_of_phantoms_are_exported(model, tmp_path):
    men = PHANTOMS.select("Sex == 'M'").head(2)
    write_twins(TwinJob(model, men, do(sex="M")), tmp_path / "twins")
    assert len(export(tmp_path / "twins", tmp_path / "out")) == 2
    for file in (tmp_path / "out/images").glob("*.dcm"):
        assert pydicom.dcmread(file).BurnedInAnnotation == "NO"


def test_burned_in_annotation_is_left_out_for_real_sources(folder, tmp_path):
    export(folder, tmp_path / "out")
    for file in (tmp_path / "out/images").glob("*.dcm"):
        assert "BurnedInAnnotation" not in pydicom.dcmread(file)


def test_burned_in_annotation_is_left_out_for_twins(model, patients, tmp_path):
    twins = model.counterfactual(patients.select("Sex == 'F'"), sex="M")
    twins.save(tmp_path / "twins", images="dicom")
    PHANTOMS.save(tmp_path / "phantoms", images="dicom")
    for name, said in (("twins", False), ("phantoms", True)):
        for file in (tmp_path / name / "images").iterdir():
            assert ("BurnedInAnnotation" in pydicom.dcmread(file)) == said


def test_only_synthetic_images_are_exported(tmp_path):
    mixed = some("mixed").save(tmp_path / "mixed")
    assert len(export(mixed, tmp_path / "out")) == 3
    told = json.loads((tmp_path / "out/manifest.json").read_text())["not_exported"]
    assert told == ["3 of 6 images are patients' own, they are not exported as synthetic"]


# The explorer


def asked(
    model: SCM, patients: Cohort, row: int
) -> tuple[AbductedPatient, object, downloads.ImagePair]:
    visit = AbductedPatient(model, patients.at([row]))
    twin = model.counterfactual(patients.at([row]), sex="M")
    pair = downloads.ImagePair(to_uint16(visit.patient.images[0]), to_uint16(twin.images[0]))
    return visit, visit.ask(Question({"Sex": "M"})), pair


def test_explorer_does_not_export_the_patients_radiograph(model, patients):
    sex = patients.table["Sex"].tolist()
    visit, answer, pair = asked(model, patients, sex.index("M"))
    with pytest.raises(CohortError, match="equals the patient's own radiograph and is not"):
        downloads.pair_dicom(visit, answer, pair, b"k" * 32)
    near = downloads.ImagePair(pair.factual, pair.factual + np.uint16(200))
    with pytest.raises(CohortError, match="is within one 8-bit grey level of the patient's"):
        downloads.pair_dicom(visit, answer, near, b"k" * 32)
    visit, answer, pair = asked(model, patients, sex.index("F"))
    with zipfile.ZipFile(io.BytesIO(downloads.pair_dicom(visit, answer, pair, b"k" * 32))) as zips:
        assert sorted(zips.namelist()) == ["twin.dcm", "twin.json"]
    visit, answer, pair = asked(model, PHANTOMS, sex.index("M"))
    with zipfile.ZipFile(io.BytesIO(downloads.pair_dicom(visit, answer, pair, b"k" * 32))) as zips:
        assert "factual.dcm" in zips.namelist()


def test_thumbnails_of_synthetic_images_are_marked():
    ward = PatientList(some("mixed"), GRAPH)
    told = [Image.open(io.BytesIO(ward.thumbnail(row))).text.get("Comment") for row in range(6)]
    assert [text == MARK for text in told] == MIXED.tolist()


def test_dropped_marked_file_is_synthetic(tmp_path):
    drops = Uploads()
    for marked in (True, False):
        file = png(tmp_path / "a.png") if marked else tmp_path / "b.png"
        if not marked:
            Image.fromarray(np.eye(SIDE, dtype=np.uint8)).save(file)
        drop = drops.put(file.read_bytes(), "a.png")
        assert drop.cohort({}, None).images.synthetic.tolist() == [marked]
