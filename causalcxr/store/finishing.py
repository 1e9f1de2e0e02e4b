"""The last step of a store: its table, what could not be read, and the manifest."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.cohort import Cohort
from causalcxr.files import atomic_write
from causalcxr.store.index import SHARD, SLOT, write_index
from causalcxr.store.layout import INDEX, KIND, MANIFEST, QUARANTINE, SCHEMA, digest_of
from causalcxr.store.plan import Plan, sha256_of

__all__ = ["finish"]

_LISTED = 1000  # quarantined images that the manifest names; the .csv names all
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would begin to calculate


def finish(
    place: Path,
    notes: Iterable[tuple[np.ndarray, dict[str, Any]]],
    plan: Plan,
    table: pd.DataFrame,
    job: dict[str, Any] | None,
) -> None:
    """Write what belongs to a store besides its shards: table, quarantine, report, manifest.

    Args:
        place: The folder, with all of its shards.
        notes: Of each shard, in order, the rows that it was to hold, and the note on it.
        plan: What is stored.
        table: Its records as `table_of` gives them.
        job: See `job_of`; None if the plan does not say what it is made from.
    """
    numbers = np.full(len(table), -1, dtype=np.int32)
    slots = numbers.copy()
    shards, faults = [], []
    for number, (rows, note) in enumerate(notes):
        wrong = [fault["offset"] for fault in note["faults"]]
        good = np.delete(rows, wrong)
        numbers[good], slots[good] = number, np.arange(len(good))
        faults += [(int(rows[fault["offset"]]), fault) for fault in note["faults"]]
        shards.append({name: note[name] for name in ("file", "images", "sha256")})
    write_index(place / INDEX, table.assign(**{SHARD: numbers, SLOT: slots}))
    listed = _quarantine(plan.cohort, faults)
    atomic_write(place / QUARANTINE, _csv(listed))
    reasons = dict(sorted(Counter(entry["reason"] for entry in listed).items()))
    if plan.report is not None:
        plan.report(place, reasons)
    manifest = _manifest(place, plan, shards, listed, reasons)
    manifest["job_sha256"] = None if job is None else sha256_of(job)
    atomic_write(place / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    # What is not named in the manifest does not belong to the store.
    for left in (place / "images").glob(".*.tmp"):
        left.unlink(missing_ok=True)


def _manifest(
    place: Path,
    plan: Plan,
    shards: list[dict[str, Any]],
    listed: list[dict[str, str]],
    reasons: dict[str, int],
) -> dict[str, Any]:
    return {
        "kind": KIND,
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
            "first": listed[:_LISTED],
        },
        "index": {"file": INDEX, "sha256": digest_of(place / INDEX)},
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
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ("record", "reason", "file", "told"))
    writer.writeheader()
    for entry in listed:
        # A spreadsheet takes an apostrophe for the sign of a text, and shows the rest.
        safe = {k: f"'{v}" if v.startswith(_FORMULA) else v for k, v in entry.items()}
        writer.writerow(safe)
    return text.getvalue()
