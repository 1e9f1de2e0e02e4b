"""The last step of a store: its table, the list of unreadable images, and the manifest."""

from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.common.digests import file_digest
from causalcxr.common.files import atomic_write
from causalcxr.common.result_folder import Draft
from causalcxr.common.spreadsheet import csv_text
from causalcxr.sources.store.index import SHARD, SLOT, SYNTHETIC, write_index
from causalcxr.sources.store.layout import INDEX, QUARANTINE, SCHEMA
from causalcxr.sources.store.plan import Plan

__all__ = ["finish"]

_MAX_LISTED = 1000  # quarantined images in the manifest; the .csv lists all


def finish(
    draft: Draft,
    notes: Iterable[tuple[np.ndarray, dict[str, Any]]],
    plan: Plan,
    table: pd.DataFrame,
) -> None:
    """Write the files of a store besides its shards: table, quarantine, report, manifest.

    Args:
        draft: The folder, with all of its shards.
        notes: For each shard, in order, its planned rows and the note on it.
        plan: The plan of the store.
        table: Its records, from `index_table`.
    """
    place = draft.place
    # Where each image is: its shard and its slot, -1 without an image.
    numbers = np.full(len(table), -1, dtype=np.int32)
    slots, synthetic = numbers.copy(), np.zeros(len(table), dtype=bool)
    shards, faults = [], []
    for number, (rows, note) in enumerate(notes):
        # An unreadable image has no slot; those behind it move up.
        unreadable = [fault["offset"] for fault in note["faults"]]
        good = np.delete(rows, unreadable)
        numbers[good], slots[good] = number, np.arange(len(good))
        synthetic[good[note["synthetic"]]] = True
        faults += [(int(rows[fault["offset"]]), fault) for fault in note["faults"]]
        shards.append({name: note[name] for name in ("file", "images", "sha256")})
    places = {SHARD: numbers, SLOT: slots, SYNTHETIC: synthetic}
    write_index(place / INDEX, table.assign(**places))
    listed = _quarantine(plan.cohort, faults)
    atomic_write(place / QUARANTINE, _csv(listed))
    reasons = dict(sorted(Counter(entry["reason"] for entry in listed).items()))
    if plan.report is not None:
        plan.report(place, reasons)
    about = _about(place, plan, shards, listed, reasons)
    # Write the manifest last: a folder without one is incomplete.
    draft.finish(about, {shard["file"]: shard["sha256"] for shard in shards})


def _about(
    place: Path,
    plan: Plan,
    shards: list[dict[str, Any]],
    listed: list[dict[str, str]],
    reasons: dict[str, int],
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "source": plan.cohort.source,
        "records": len(plan.cohort),
        "patients": int(plan.cohort.patients.nunique()),
        "images": sum(shard["images"] for shard in shards),
        "image_size": list(plan.size),
        "made_from": plan.made_from,
        **plan.about,
        "notes": plan.cohort.notes,
        "quarantined": {
            "images": len(listed),
            "reasons": reasons,
            "first": listed[:_MAX_LISTED],
        },
        "index": {"file": INDEX, "sha256": file_digest(place / INDEX)},
        "shards": shards,
        "versions": {name: version(name) for name in ("causalcxr", "numpy", "pandas", "pyarrow")},
    }


def _quarantine(cohort: Cohort, faults: list[tuple[int, dict]]) -> list[dict[str, str]]:
    """Return the records whose images could not be read, in the order of the table."""
    faults = sorted(faults, key=lambda pair: pair[0])
    return [
        {
            "record": "-draw".join(map(str, np.atleast_1d(cohort.index[row]))),
            "reason": fault["reason"],
            "file": fault["file"],
            "told": fault["told"],
        }
        for row, fault in faults
    ]


def _csv(listed: list[dict[str, str]]) -> str:
    table = pd.DataFrame(listed, columns=["record", "reason", "file", "told"])
    return csv_text(table, index=False, end="\r\n")
