"""Pairs in a folder: a cohort a world, the verdicts, a manifest that comes last.

    factual/ twin/ null/ direct/    cohorts as `Cohort.save` writes them
    pairs.csv, amplification.csv    the verdict of each pair; what changes out of reach
    graph.yaml, manifest.json       what the columns mean; what was asked

A job that was killed is resumed with the image where it stopped; see `ResultFolder`.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from causalcxr.audit.gates import GATES, Gates
from causalcxr.audit.pairs import Pairs
from causalcxr.audit.making_pairs import Worlds
from causalcxr.audit.reader import AttributeReader
from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import AuditError
from causalcxr.common.files import atomic_write
from causalcxr.graph.graph import Graph
from causalcxr.graph.interventions import Intervention
from causalcxr.common.progress import progress
from causalcxr.common.result_digests import Digests
from causalcxr.common.result_folder import Draft, ResultFolder
from causalcxr.common.spreadsheet import csv_text, unmarked_table

__all__ = ["SCHEMA", "load_pairs", "pairs_result", "save_pairs", "write_pairs"]

SCHEMA = 1
_KIND = "causalcxr pairs"
_MANIFEST = "manifest.json"


def write_pairs(
    made: Worlds,
    graph: Graph,
    action: Intervention,
    folder: Path,
    *,
    reader: AttributeReader | None = None,
    gates: Gates | None = None,
    identity: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Pairs:
    """Compute and write the worlds, then judge what was written, and return it.

    Args:
        made: The worlds, images not yet computed.
        graph: What the columns mean.
        action: What is done.
        folder: A new one; see `ResultFolder`.
        reader: Who reads attributes off images.
        gates: Where the gates stand.
        identity: What determines the pairs, besides the action and what the worlds tell: the
            cohort's fingerprint and the reader's. Without it, nothing is resumed.
        overwrite: Replace the pairs that the folder holds, even the same ones.

    Raises:
        AuditError: If the folder holds something else.
        CohortError: If a world cannot be written.
    """
    with pairs_result(folder, identity, overwrite=overwrite).writing() as draft:
        if draft.complete:
            return load_pairs(folder)
        _write_worlds(draft.place, made.worlds, {**made.about, **action.bind(graph).to_json()})
        saved = {name: Cohort.load(draft.place / name) for name in made.worlds}
        pairs = replace(made, worlds=saved).judged(graph, action, reader, gates)
        _write_rest(pairs, draft)
    # Their images have moved with the folder.
    return replace(pairs, worlds={name: Cohort.load(folder / name) for name in made.worlds})


def pairs_result(
    folder: Path, identity: Mapping[str, Any] | None, *, overwrite: bool
) -> ResultFolder:
    """Return the folder that pairs are written to; its `check` refuses a place in time."""

    def unfinished(path: Path) -> bool:  # by version 0.1.0
        return (path / ".pairs").is_file()

    return ResultFolder(
        folder, _KIND, "pairs", identity, overwrite, AuditError, recognises=unfinished
    )


def save_pairs(pairs: Pairs, folder: Path, *, overwrite: bool = False) -> Path:
    """Write pairs that have been judged.

    Args:
        pairs: The pairs.
        folder: A new one.
        overwrite: Replace the pairs that it holds, even the same ones.

    Raises:
        AuditError: If the folder holds something else.
        CohortError: If a world cannot be written.
    """
    with pairs_result(folder, None, overwrite=overwrite).writing() as draft:
        _write_worlds(draft.place, pairs.worlds, pairs.about)
        _write_rest(pairs, draft)
    return folder


def load_pairs(folder: Path) -> Pairs:
    """Read saved pairs.

    Raises:
        AuditError: If there are none, or they are damaged or of another version.
    """
    try:
        about = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        if (about.pop("kind"), about.pop("schema")) != (_KIND, SCHEMA):
            raise AuditError(f"{folder}: holds no pairs of version {SCHEMA}; write them again")
        digests = Digests(folder, about, AuditError)
        about = {k: v for k, v in about.items() if k not in ("identity", "files_sha256")}
        for name in digests:
            if "/" not in name:  # each world is verified when it is loaded
                digests.check(name)
        worlds = {name: Cohort.load(folder / name) for name in about.pop("worlds")}
        gates = pd.read_csv(
            folder / "pairs.csv", dtype={"why": str, **dict.fromkeys(GATES, float)}
        )
        gates = gates[["changed", "known", *GATES, "why", "valid"]].fillna({"why": ""})
        gates.index = worlds["factual"].index
        spread = unmarked_table(pd.read_csv(folder / "amplification.csv", keep_default_na=False))
        graph = Graph.load(folder / "graph.yaml")
    except AuditError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise AuditError(
            f"{folder}: holds no complete pairs ({error}); write them with `causalcxr pairs`"
        ) from None
    return Pairs(graph, worlds, gates, spread, about)


def _write_worlds(place: Path, worlds: Mapping[str, Cohort], about: Mapping[str, Any]) -> None:
    """Write each world, whole or not at all; one that an interrupted job has written stays."""
    module = import_module("causalcxr.cohort.saved")
    told = json.loads(json.dumps(about))
    for name, cohort in progress(list(worlds.items()), "Making pairs", "worlds"):
        if not module.recognises(place / name):
            images = "png" if cohort.has_images else None
            module.save(cohort, place / name, images, {"world": name, **told})


def _write_rest(pairs: Pairs, draft: Draft) -> None:
    place, spread = draft.place, pairs.amplification
    if not spread.shape[1]:
        spread = pd.DataFrame(columns=["variable", "level", "mean", "absolute", "se", "patients"])
    atomic_write(place / "pairs.csv", csv_text(pairs.gates))
    atomic_write(place / "amplification.csv", csv_text(spread, index=False))
    atomic_write(place / "graph.yaml", pairs.graph.to_yaml())
    draft.finish({"schema": SCHEMA, "worlds": list(pairs.worlds), **pairs.about})
