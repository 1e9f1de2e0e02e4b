"""Twins of radiographs of any size and depth, written and read again."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from changing_images import with_effects
from PIL import Image

from causalcxr import SCM, Cohort, Graph, Variable, do
from causalcxr.apps.cli.twin_folder import write_twins
from causalcxr.apps.cli.twin_job import TwinJob
from causalcxr.apps.export.exporting import ExportSettings, export
from causalcxr.audit.making_pairs import make_pairs
from causalcxr.common.errors import CohortError
from causalcxr.images.decoding import decode
from causalcxr.images.file_images import FileImages
from causalcxr.images.images import ArrayImages
from causalcxr.scm import model_images
from causalcxr.sources.store.writing import write

# Size and bits of the radiographs.
KINDS = [((64, 64), 8), ((100, 100), 12), ((128, 96), 16), ((512, 512), 12)]
SEXES = pd.DataFrame({"Sex": ["F", "M", "F"]}, index=["a", "b", "c"])


def fitted(coupling: str) -> SCM:
    """Return a model of 16 pixels whose images change with sex."""
    radit = {"kind": "radit", "resolution": 16, "steps": 1, "solver_steps": 1, "batch": 2}
    radit |= {"edits": 1, "coupling": coupling}
    graph = Graph(
        [
            Variable("Sex", "binary", levels=("F", "M")),
            Variable("Image", "image", parents=("Sex",), mechanism=radit),
        ]
    )
    pixels = np.random.default_rng(0).random((4, 40, 40))
    records = Cohort(pd.DataFrame({"Sex": ["F", "M", "F", "M"]}), pixels, source="a clinic")
    model = with_effects(SCM(graph).fit(records))
    model.fitted["Image"].mechanism.chunk.size = 2  # quick
    return model


@pytest.fixture(scope="module")
def model() -> SCM:
    return fitted("transport")


@pytest.fixture(scope="module")
def models(model) -> dict[str, SCM]:
    return {"transport": model, "inversion": fitted("inversion")}


def levels_of(size: tuple[int, int], bits: int, n: int = 3) -> np.ndarray:
    """Return grey levels with an edge, a slope and noise, 0 to 2^bits - 1."""
    height, width = size
    slope = np.linspace(0.1, 0.7, width)[None] + 0.2 * (np.arange(height) > height // 2)[:, None]
    noise = np.random.default_rng(1).normal(0, 0.02, (n, *size))
    return np.rint((slope + noise).clip(0, 1) * (2**bits - 1)).astype(np.uint16)


def patients(folder: Path, size: tuple[int, int], bits: int) -> Cohort:
    """Return three records with PNG files of real radiographs."""
    paths = []
    for k, levels in enumerate(levels_of(size, bits)):
        paths.append(folder / f"{k}.png")
        # 12 bits are stored in files of 16.
        deep = np.rint(levels * (65535 / (2**bits - 1))).astype(np.uint16)
        Image.fromarray(levels.astype(np.uint8) if bits == 8 else deep).save(paths[-1])
    return Cohort(SEXES, FileImages(paths), source="a clinic")


@pytest.mark.parametrize("coupling", ["transport", "inversion"])
@pytest.mark.parametrize(("size", "bits"), KINDS)
def test_a_null_twin_is_the_radiograph(models, tmp_path, size, bits, coupling):
    model, cohort = models[coupling], patients(tmp_path, size, bits)
    null = model.counterfactual(cohort, recompute=True).images
    assert null.size == size
    assert (null[:] == cohort.images[:]).all()
    assert not null.synthetic.any()
    twins = model.counterfactual(cohort, sex="M").images
    assert twins.synthetic.tolist() == [True, False, True]
    change = twins[:] - cohort.images[:]
    assert not change[1].any()
    assert np.abs(change[[0, 2]]).mean() > 0.001


@pytest.mark.parametrize(("size", "bits"), KINDS[:3])
def test_files_keep_the_size_and_the_depth_of_the_radiographs(model, tmp_path, size, bits):
    cohort = patients(tmp_path, size, bits)
    # Null twins show every grey level of the radiograph, as written.
    null = model.counterfactual(cohort, recompute=True)
    saved = Cohort.load(null.save(tmp_path / "null"))
    assert saved.images.size == size
    again = np.rint(saved.images[:] * (2**bits - 1)).astype(np.uint16)
    assert (again[:, 0] == levels_of(size, bits)).all()
    assert not saved.images.synthetic.any()
    # Twins as DICOM: no fewer bits than the radiographs.
    twins = model.counterfactual(cohort, sex="M").select([True, False, True])
    folder = twins.save(tmp_path / "twins", images="dicom")
    file = pydicom.dcmread(folder / "images" / "a.dcm")
    assert (file.Rows, file.Columns) == size
    assert file.BitsStored == (12 if bits == 8 else 16)  # 12 bits in a PNG of 16 are 16
    step = 1 / (2**file.BitsStored - 1)
    assert np.abs(Cohort.load(folder).images[:] - twins.images[:]).max() < 0.51 * step


def test_twins_in_a_folder_are_exported_at_the_size_of_the_radiographs(model, tmp_path):
    cohort = patients(tmp_path, (128, 96), 16)
    result = write_twins(TwinJob(model, cohort, do(sex="M")), tmp_path / "twins")
    manifest = json.loads((tmp_path / "twins/manifest.json").read_text())
    assert manifest["images"] == "128 x 96 pixels, computed at 16 x 16"
    assert manifest["images"] in result.files["images"]
    for kind in ("png", "dicom"):
        index = export(tmp_path / "twins", tmp_path / kind, ExportSettings(kind))
        assert len(index) == 2
        for name in index["file"]:
            decoded = decode(tmp_path / kind / "images" / name)
            assert decoded.bits == 16
            # A PNG also has a strip with the mark, which is wider than this radiograph.
            assert kind == "png" or decoded.pixels.shape == (128, 96)
        sidecar = json.loads(next((tmp_path / kind / "images").glob("*.json")).read_text())
        assert sidecar["provenance"]["images"] == manifest["images"]


def test_pairs_and_stores_have_twins_of_their_own_size(model, tmp_path):
    cohort = patients(tmp_path, (64, 48), 16)
    store = Cohort.load(write(cohort, tmp_path / "store"))
    pairs = make_pairs(model, store, sex="M")
    assert pairs.twin.images.size == pairs.worlds["null"].images.size == (64, 48)
    assert pairs.about["images"] == "64 x 48 pixels, computed at 16 x 16"
    assert pairs.gates["round_trip"].dropna().eq(0).all()
    direct = model.counterfactual(cohort, sex="M").images[[0, 2]]
    assert (pairs.twin.images[[0, 2]] == direct).all()


def test_dropped_images_are_computed_again(model, tmp_path, monkeypatch):
    cohort = patients(tmp_path, (64, 64), 16)
    kept = model.counterfactual(cohort, sex="M").images
    monkeypatch.setattr(model_images, "_KEPT", 64 * 64)
    twins = model.counterfactual(cohort, sex="M").images
    assert (twins[:] == kept[:]).all()
    assert len(twins._kept) == 1
    assert (twins[:] == kept[:]).all()


def test_files_of_different_sizes_are_refused_with_a_way_out(model, tmp_path):
    for k, side in enumerate((64, 80, 64)):
        Image.fromarray(np.zeros((side, 64), np.uint8)).save(tmp_path / f"{k}.png")
    paths = [tmp_path / f"{k}.png" for k in range(3)]
    cohort = Cohort(SEXES, FileImages(paths), source="a clinic")
    with pytest.raises(CohortError, match="80x64, others are 64x64; resize all with size=, or lo"):
        model.counterfactual(cohort, sex="M").images[:]


@pytest.mark.slow  # images of 4 million pixels
def test_a_radiograph_of_2048_pixels_has_a_twin(model, tmp_path):
    cohort = patients(tmp_path, (2048, 2048), 16).head(1)
    null = model.counterfactual(cohort, recompute=True)
    assert (null.images[:] == cohort.images[:]).all()
    twins = model.counterfactual(cohort, sex="M")
    saved = Cohort.load(twins.save(tmp_path / "twins"))
    assert saved.images.synthetic.tolist() == [True]
    assert np.abs(saved.images[:] - twins.images[:]).max() < 1e-5


def test_real_radiographs_have_twins_of_their_own_size(model, data):
    files = sorted((data / "nih" / "images_128").glob("*.png"))[:3]
    cohort = Cohort(SEXES, FileImages(files), source="nih")
    null = model.counterfactual(cohort, recompute=True).images
    assert (null[:] == cohort.images[:]).all()
    twins = model.counterfactual(cohort, sex="M").images
    assert twins.size == cohort.images.size
    assert twins.synthetic.tolist() == [True, False, True]


@pytest.mark.parametrize("name", ["CR-MONO1-10-chest", "vlut_04", "nih_google_dx"])
def test_a_real_dicom_file_has_a_twin_of_its_own_size(model, data, name):
    images = FileImages([data / f"dicom/{name}.dcm"])
    if max(images.size) > 1024:
        images = ArrayImages(images[:][:, :, ::4, ::4])
    cohort = Cohort(SEXES.head(1), images, source="a clinic")
    null = model.counterfactual(cohort, recompute=True).images
    assert (null[:] == images[:]).all()
    twin = model.counterfactual(cohort, sex="M")
    assert twin.images.size == images.size
    assert twin.images.synthetic.all()
