"""NIH ChestX-ray14 in its published layout, harmonised to the names of the expert graph.

References:
    ChestX-ray8: Hospital-scale chest X-ray database and benchmarks (Wang et al., CVPR 2017), from
    the NIH Clinical Center, https://nihcc.app.box.com/v/ChestXray-NIHCC.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.splits import check_splits, draw_splits
from causalcxr.common.errors import CohortError, brief
from causalcxr.common.listing import leads_out, names_within
from causalcxr.images.file_images import FileImages
from causalcxr.sources.age_reader import age
from causalcxr.sources.csv_reader import read_columns
from causalcxr.sources.finding_readers import finding_list
from causalcxr.sources.harmonised import Ledger
from causalcxr.sources.image_paths import ImageFiles
from causalcxr.sources.label_maps import bundled
from causalcxr.sources.policy import BLANK, UNLISTED, P, Policy
from causalcxr.sources.source import Source, Table
from causalcxr.sources.source_rows import Rows
from causalcxr.sources.variable_readers import sex, view

__all__ = ["FINDINGS", "OTHERS", "SOURCE", "harmonise", "load", "recognises"]

# The findings of the graph that a label means. Variables that NIH did not label (Race, Fracture,
# Support Devices, Enlarged Cardiomediastinum) have no column: missing, not negative.
FINDINGS = tuple(name for name in bundled("nih_labels").findings if name != "No Finding")
# Labels that are not findings of the graph; they are kept, and contradict No Finding.
OTHERS = ("Emphysema", "Fibrosis", "Hernia")

_LABELS = "Finding Labels"
_READ_LIST = finding_list(_LABELS, lambda text: text.split("|"), "nih_labels", closed=True)


def load(path: str | Path | None = None, *, size: int | None = 64, unlisted: str = "N") -> Cohort:
    """Read ChestX-ray14, or a part of it.

    Args:
        path: The folder of `Data_Entry_2017*.csv`, or that file; by default the folder `nih` in
            the folder of the environment variable CAUSALCXR_DATA.
        size: The side of the images in pixels; None for that of the files. Files of that size
            (`images_64/`) are preferred, larger ones are resized, smaller ones are not used.
        unlisted: The value of a finding that is not listed, "N" or "U" (missing), as NIH lists
            only present findings. If No Finding is listed, all others are N.

    Raises:
        CohortError: If a file is not as published.
    """
    if unlisted not in ("N", "U"):
        raise CohortError(f"unlisted={unlisted!r}; allowed: 'N', 'U' (missing)")
    path = SOURCE.default_folder() if path is None else path
    harmonised = SOURCE.harmonise(path, Policy(unlisted=unlisted))
    folder = Path(harmonised.origin).parent
    images, notes = _images(folder, harmonised.table.index, size)
    cohort = harmonised.cohort(images=images)
    return cohort.described(cohort.source, *notes)


def _findings(rows: Rows, policy: Policy, ledger: Ledger) -> Mapping[str, np.ndarray]:
    """Return the findings of the graph and the other labels; each distinct list is read once."""
    marks = _READ_LIST(rows, policy, ledger)
    healthy = marks.pop("No Finding")
    _, texts = rows.distinct(_LABELS)
    for name in OTHERS:
        lists = [[word.strip().lower() for word in text.split("|")] for text in texts]
        by_text = [P if name.lower() in words else UNLISTED for words in lists]
        marks[name] = rows.map_texts(_LABELS, np.array(by_text, np.int8), BLANK)
    return marks | {"No Finding": healthy}


def _split(rows: Rows, policy: Policy, ledger: Ledger) -> np.ndarray | None:
    folder, index = rows.path.parent, pd.Index(rows.texts("Image Index"))
    patients = rows.texts("Patient ID")
    splits, origin, drawn = _splits(folder, index, patients, _companion(folder))
    if origin:
        why = f"splits come from {origin}"
        ledger.fact("split-published", why)
        ledger.note("split-drawn", f"{why}; drawn by a hash of the patient", drawn)
    return splits


def _source_size(rows: Rows) -> np.ndarray | None:
    companion = _companion(rows.path.parent)
    if companion is None:
        return None
    return companion["source_size"].reindex(rows.texts("Image Index")).fillna("").to_numpy(object)


SOURCE = Source(
    name="nih",
    dataset="ChestX-ray14",
    cite="Wang et al., CVPR 2017; https://nihcc.app.box.com/v/ChestXray-NIHCC",
    tables=(
        Table(
            ("Data_Entry_2017*.csv",),
            (
                "Image Index",
                _LABELS,
                "Follow-up #",
                "Patient ID",
                "Patient Age",
                "Patient Gender",
                "View Position",
            ),
        ),
    ),
    record="Image Index",
    patient="Patient ID",
    variables={
        "View": view("View Position", {"AP": "AP", "PA": "PA", "LATERAL": "LATERAL"}),
        "Sex": sex("Patient Gender"),
        "Age": age("Patient Age"),
    },
    findings=_findings,
    split=_split,
    images=ImageFiles("Image Index", ("images", "images_0??/images", "images_[1-9]*")),
    derived={"source_size": _source_size},
    extras={"Follow-up #": "Follow-up", "source_size": "source_size"},
)

recognises, harmonise = SOURCE.recognises, SOURCE.harmonise


def _companion(folder: Path) -> pd.DataFrame | None:
    """Return the rows of `images_*.csv`, one for each of some images."""
    parts = []
    for file in sorted(folder.glob("images_*.csv")):
        cells = read_columns(file, ("image_id", "patient_id", "source_size", "split"))
        parts.append(cells.astype(object))
    if not parts:
        return None
    companion = pd.concat(parts)
    check_splits(companion["split"], companion["patient_id"], f"{folder}/images_*.csv")
    return companion.drop_duplicates("image_id").set_index("image_id")


def _splits(
    folder: Path, index: pd.Index, patients: np.ndarray, companion: pd.DataFrame | None
) -> tuple[np.ndarray | None, str, np.ndarray]:
    """Return each record's split, its origin, and which splits are drawn.

    Official lists come first, then the companion file, then a keyed hash. A patient has one
    split: that of the first list or file that names any of the patient's records.
    """
    lists = {name: _read_list(folder / f"{name}_list.txt") for name in ("train_val", "test")}
    official = any(names is not None for names in lists.values())
    if not official and companion is None:
        return None, "", np.zeros(len(patients), dtype=bool)
    # Draw splits for everybody; published ones replace them below.
    splits = draw_splits(patients, (0.8, 0.1, 0.1))
    origin = "official lists" if official else "images_*.csv"
    drawn = np.ones(len(patients), dtype=bool)
    if official:
        splits = draw_splits(patients, (0.875, 0.125, 0.0))
    if companion is not None:
        by_patient = companion.drop_duplicates("patient_id").set_index("patient_id")["split"]
        published = by_patient.reindex(patients).to_numpy(dtype=object)
        drawn = pd.isna(published)
        splits = np.where(drawn, splits, published)
    if official:
        test = _patients_tested(lists, index, patients)
        # A patient in the test set of the companion but not of the official lists is in train.
        splits = np.where(test, "test", np.where(splits == "test", "train", splits))
        drawn &= ~test
    return splits, origin, drawn


def _read_list(file: Path) -> set[str] | None:
    if not file.is_file():
        return None
    try:
        return set(file.read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as error:
        raise CohortError(f"{file}: cannot be read: {error}") from None


def _patients_tested(
    lists: dict[str, set[str] | None], index: pd.Index, patients: np.ndarray
) -> np.ndarray:
    """Return which records are of test patients; a patient in both lists is refused."""
    # By patient: one image in a list is enough.
    train, test = (
        pd.Index(patients).isin(patients[index.isin(names)]) if names is not None else None
        for names in (lists["train_val"], lists["test"])
    )
    # Without the test list, test patients are those whom the other list lacks.
    if test is None:
        return ~train
    if train is not None and (both := train & test).any():
        raise CohortError(
            f"patient {brief(patients[both][0])} is in train_val_list.txt and in test_list.txt "
            f"({len(set(patients[both])):,} patients); a patient has one split"
        )
    return test


def _images(
    folder: Path, index: pd.Index, size: int | None
) -> tuple[FileImages | None, list[str]]:
    """Find each record's file: of the given size first, then larger ones, then the originals.

    Returns:
        The images, and a note on each folder that is not used because it is a link to elsewhere.
    """
    sized = {int(p.name[7:]): p for p in folder.glob("images_*") if _is_sized(p)}
    copies = [sized[side] for side in sorted(sized) if size is None or side >= size]
    originals = sorted([*folder.glob("images"), *folder.glob("images_0??/images")])
    away = [place for place in (*copies, *originals) if leads_out(place, folder)]
    notes = [f"{p.relative_to(folder)} is a link out of {folder}: not used" for p in away]
    copies, originals = ([p for p in each if p not in away] for each in (copies, originals))
    # Without a size all originals are read, or else the largest copies: sizes do not mix.
    order = copies + originals if size is not None else originals or copies[-1:]
    paths: dict[str, Path] = {}
    # The first folder in order is written last, so that it takes precedence.
    for place in reversed(order):
        paths.update((name, place / name) for name in names_within(place, folder))
    files = [paths.get(record) for record in index]
    if not any(files):
        return None, notes
    return FileImages(files, None if size is None else (size, size)), notes


def _is_sized(path: Path) -> bool:
    return path.is_dir() and re.fullmatch(r"images_[1-9]\d*", path.name) is not None
