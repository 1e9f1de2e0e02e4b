"""A store gives back what was stored, from any row, and says so where it cannot."""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalcxr import SCM, Cohort, Graph, Variable
from causalcxr.common.errors import CohortError
from causalcxr.images.file_images import FileImages
from causalcxr.images.images import ArrayImages
from causalcxr.sources import stored
from causalcxr.sources.store.reading import Store, check
from causalcxr.sources.store.writing import write

pytest.importorskip("pyarrow")
SMALL = 0.01  # mebibytes: 20 images of 16 x 16 pixels


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    """50 records of 25 patients, with every kind of column; each seventh has no image."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "Age": random.integers(0, 90, 50).astype(float),
            "Sex": ["F", "M", None, "F", "M"] * 10,
            "Follow-up": np.arange(50),
            "seen": random.random(50) < 0.5,
            "note": pd.Series([None, "a,b", 'q"q', "=1+1", "é"] * 10, dtype=object),
            "mixed": pd.Series([None, True] * 25, dtype=object),
        },
        index=[f"r{k:02d}" for k in range(50)],
    )
    table.loc[table.index[::9], "Age"] = np.nan
    images = random.integers(0, 65536, (50, 16, 16), dtype=np.uint16)
    patients = [f"p{k // 2}" for k in range(50)]
    whole = Cohort(table, ArrayImages(images, np.arange(50) % 7 > 0), patients=patients)
    return whole.assign_splits(seed=1).described("table", "ages were rounded")


@pytest.fixture(scope="module")
def folder(cohort, tmp_path_factory) -> Path:
    return write(cohort, tmp_path_factory.mktemp("stored") / "store", shard=SMALL)


def test_store_returns_every_cell_and_grey_level(cohort, folder):
    loaded = Cohort.load(folder)
    assert stored.recognises(folder)
    assert isinstance(loaded.images, Store)
    assert loaded.index.equals(cohort.index)
    assert loaded.patients.tolist() == cohort.patients.tolist()
    assert loaded.splits.tolist() == cohort.splits.tolist()
    assert (loaded.source, loaded.notes) == ("table", ["ages were rounded"])
    before, after = cohort.table, loaded.table
    assert list(after) == list(before)
    for name in before:
        assert (after[name].isna() == before[name].isna()).all(), name
        known = before[name].notna()
        assert (after[name][known] == before[name][known]).all(), name
    assert after["Follow-up"].dtype == np.int64
    assert after["seen"].dtype == bool
    there = cohort.images.available
    assert loaded.images.available.tolist() == there.tolist()
    assert (loaded.images[there] == cohort.images[there]).all()
    assert loaded.images[there].dtype == np.float32


def test_store_files_are_plain_npy_and_parquet(cohort, folder):
    assert sorted(contents(folder)) == [
        "SHA256SUMS",
        "images/00000.npy",
        "images/00001.npy",
        "images/00002.npy",
        "index.parquet",
        "manifest.json",
        "quarantine.csv",
    ]
    index = pd.read_parquet(folder / "index.parquet")
    row = int(np.flatnonzero(index["record"] == "r37")[0])
    shard = np.load(folder / f"images/{index['image shard'][row]:05d}.npy", mmap_mode="r")
    film = shard[index["image slot"][row]]
    assert (film / np.float32(65535) == cohort.images[37][0, 0]).all()
    assert (index["image shard"] < 0).tolist() == (~cohort.images.available).tolist()


@pytest.mark.parametrize(
    "rows", [3, -1, slice(1, 6), [41, 1, 1], np.arange(42) % 5 == 3, [], slice(None, None, 10)]
)
def test_rows_are_selected_as_in_memory(rows, cohort, folder):
    images = Cohort.load(folder).with_images_only().images
    expected = cohort.with_images_only().images
    assert len(images) == 42
    assert images[rows].shape == expected[rows].shape
    assert (images[rows] == expected[rows]).all()
    assert (images.select(rows)[:] == expected.select(rows)[:]).all()


def test_stored_cohort_behaves_as_any_cohort(cohort, folder, tmp_path):
    loaded = Cohort.load(folder)
    chosen = loaded.select("Sex == 'F'").with_images_only()
    expected = cohort.select("Sex == 'F'").with_images_only()
    assert chosen.index.equals(expected.index)
    assert (chosen.images[:] == expected.images[:]).all()
    saved = Cohort.load(chosen.save(tmp_path / "saved"))
    assert (saved.images[:] == expected.images[:]).all()
    travelled = pickle.loads(pickle.dumps(loaded.images))
    assert (travelled[[1, 44]] == cohort.images[[1, 44]]).all()
    assert len(pickle.dumps(loaded.images)) < 3_000
    with pytest.raises(CohortError, match=r"the record at position 7 has no image \(1 of 2 rec"):
        loaded.images[[7, 8]]


def test_model_fitted_to_a_store_gives_the_same_twins(
    tmp_path,
):
    images = {"kind": "radit", "resolution": 32, "steps": 1, "solver_steps": 1, "batch": 4}
    graph = Graph(
        [
            Variable("Sex", "binary", levels=("F", "M")),
            Variable("Image", "image", parents=("Sex",), mechanism=images),
        ]
    )
    phantoms = Cohort.load("phantom", n=12, size=32)
    loaded = Cohort.load(write(phantoms, tmp_path / "store"))
    assert (loaded.images[:] == phantoms.images[:]).all()
    twins = [SCM(graph).fit(c).counterfactual(c.head(3), sex="M") for c in (phantoms, loaded)]
    assert (twins[0].images[:] == twins[1].images[:]).all()


def test_images_are_resized_when_read(folder, cohort):
    images = Cohort.load(folder, size=8).images
    assert images.size == (8, 8)
    mean = images[[1, 2]].mean(axis=(1, 2, 3))
    assert np.abs(mean - cohort.images[[1, 2]].mean(axis=(1, 2, 3))).max() < 0.01
    assert Cohort.load(folder, size=16).images.size == (16, 16)


def test_draws_and_integer_ids_are_stored(tmp_path):
    images = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    drawn = Cohort(pd.DataFrame({"Age": [1, 2, 3]}), images).repeat(2)
    loaded = Cohort.load(write(drawn, tmp_path / "store"))
    assert loaded.index.equals(drawn.index)
    assert loaded.draws.tolist() == [0, 1] * 3
    assert (loaded.images[:] == drawn.images[:]).all()


def test_cohorts_without_images_are_stored(cohort, tmp_path):
    for some in (cohort.with_images(None), cohort.head(0), cohort.at([0, 7])):
        loaded = Cohort.load(write(some, tmp_path / "store", overwrite=True))
        assert loaded.index.tolist() == some.index.tolist()
        assert not loaded.has_images


def test_two_processes_write_the_same_bytes(cohort, folder, tmp_path):
    again = write(cohort, tmp_path / "store", shard=SMALL, workers=2)
    assert contents(again) == contents(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_store_is_read_from_an_address(cohort, folder):
    import fsspec

    bucket = fsspec.filesystem("memory")
    for name, content in contents(folder).items():
        bucket.pipe_file(f"/bucket/store/{name}", content)
    loaded = Cohort.load("memory://bucket/store")
    rows = [43, 1, 30, 1]
    assert (loaded.images[rows] == cohort.images[rows]).all()
    assert (pickle.loads(pickle.dumps(loaded.images))[rows] == cohort.images[rows]).all()
    bucket.pipe_file("/bucket/store/images/00000.npy", b"short")
    with pytest.raises(CohortError, match=r"memory://bucket/store: .*(cut short|cannot be read)"):
        loaded.images[[1]]
    with pytest.raises(CohortError, match="memory://bucket/none: not a store"):
        Cohort.load("memory://bucket/none")
    bucket.rm("/bucket", recursive=True)


def damaged(folder: Path, copy: Path, name: str, change) -> Path:
    for file, content in contents(folder).items():
        target = copy / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(change(content) if file == name else content)
    return copy


def without(content: bytes) -> bytes:
    manifest = json.loads(content)
    del manifest["shards"]
    return json.dumps(manifest).encode()


def with_(**fields: object):
    return lambda content: json.dumps(json.loads(content) | fields).encode()


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("manifest.json", lambda c: c[:50], "no source can read this"),
        ("manifest.json", lambda c: c.replace(b'"schema": 1', b'"schema": 9'), "schema 9; this"),
        ("manifest.json", without, "damaged, it has no 'shards'"),
        ("manifest.json", with_(index=[]), "damaged"),
        ("manifest.json", with_(shards=3), "damaged"),
        ("manifest.json", with_(image_size="big"), "damaged"),
        ("manifest.json", with_(notes=7), "damaged"),
        ("manifest.json", lambda c: b"[" * 100_000, "no source can read this"),
        ("index.parquet", lambda c: c[:-9], "changed since it was written"),
        ("index.parquet", lambda c: b"", "changed since it was written"),
    ],
)
def test_damaged_table_or_manifest_is_named(name, change, said, folder, tmp_path):
    copy = damaged(folder, tmp_path / "copy", name, change)
    with pytest.raises(CohortError, match=said) as error:
        Cohort.load(copy)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: b"", lambda c: b"x" * len(c)])
def test_damaged_shard_is_named(change, folder, tmp_path):
    copy = damaged(folder, tmp_path / "copy", "images/00001.npy", change)
    loaded = Cohort.load(copy)
    assert loaded.images[[1]].shape == (1, 1, 16, 16)
    with pytest.raises(CohortError, match=r"images/00001\.npy: missing or damaged \("):
        loaded.with_images_only().images[:]
    assert list(check(copy)) == [f"{copy}/images/00001.npy: changed since it was written"]
    assert list(check(folder)) == []


def test_check_finds_a_changed_pixel(folder, tmp_path):
    copy = damaged(folder, tmp_path / "copy", "images/00002.npy", lambda c: c[:-1] + b"\x07")
    (copy / "images/00000.npy").unlink()
    assert list(check(copy)) == [
        f"{copy}/images/00000.npy: cannot be read (No such file or directory)",
        f"{copy}/images/00002.npy: changed since it was written",
    ]


def test_damaged_images_are_quarantined(tmp_path):
    images = np.random.default_rng(1).random((9, 8, 8)).astype(np.float32)
    table = pd.DataFrame({"Age": np.arange(9)}, index=[f"={k}" for k in range(9)])
    saved = Cohort(table, images).save(tmp_path / "saved")
    whole = Cohort.load(saved)
    whole = whole.with_images(FileImages(whole.images.paths))  # as files of anybody's
    files = sorted((saved / "images").iterdir())
    files[2].write_bytes(files[2].read_bytes()[:60])
    files[5].write_bytes(b"GIF89a")
    folder = write(whole, tmp_path / "store")
    loaded = Cohort.load(folder)
    left = [0, 1, 3, 4, 6, 7, 8]
    assert np.flatnonzero(loaded.images.available).tolist() == left
    assert np.abs(loaded.images[left][:, 0] - images[left]).max() < 1e-5
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["images"] == 7
    assert manifest["quarantined"]["reasons"] == {"truncated": 1, "unknown": 1}
    assert [e["record"] for e in manifest["quarantined"]["first"]] == ["=2", "=5"]
    rows = (folder / "quarantine.csv").read_text().splitlines()
    assert rows[0] == "record,reason,file,told"
    assert rows[1].startswith("'=2,truncated,")  # a spreadsheet must not calculate it
    assert len(rows) == 3


def test_other_folders_are_not_overwritten(cohort, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CohortError, match="holds something else"):
        write(cohort, tmp_path)
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


def test_store_is_replaced_only_with_overwrite(cohort, tmp_path):
    write(cohort, tmp_path / "store", shard=SMALL)
    with pytest.raises(CohortError, match="holds a store already; give another folder, or --over"):
        write(cohort.at([1, 2]), tmp_path / "store", shard=SMALL)
    write(cohort.at([1, 2]), tmp_path / "store", shard=SMALL, overwrite=True)
    assert len(Cohort.load(tmp_path / "store")) == 2
    assert sum(name.endswith(".npy") for name in contents(tmp_path / "store")) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("split", ["a"], "column 'split' has a name that the store reserves"),
        ("mess", [{}], "column 'mess' holds texts and also {}"),
    ],
)
def test_unsupported_tables_are_refused(column, values, said, tmp_path):
    table = pd.DataFrame({column: pd.Series(values, dtype=object)})
    with pytest.raises(CohortError, match=said):
        write(Cohort(table), tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_missing_pyarrow_names_the_remedy(cohort, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(CohortError, match=r'pip install -e "\.\[store\]"'):
        write(cohort, tmp_path / "store")
    assert list(tmp_path.iterdir()) == []
