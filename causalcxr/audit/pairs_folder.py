"""Pairs in a folder: a cohort a world, the verdicts, a manifest that comes last.

    factual/ twin/ null/ direct/    cohorts as `Cohort.save` writes them
    pairs.csv, amplification.csv    the verdict of each pair; what changes out of reach
    graph.yaml, manifest.json       what the columns mean; what was asked

A job that was killed goes on with the image where it stopped.
"""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from causalcxr.audit.gates import GATES, Gates
from causalcxr.audit.pairs import Pairs, Worlds
from causalcxr.audit.reader import AttributeReader
from causalcxr.cohort import Cohort
from causalcxr.errors import AuditError
from causalcxr.files import atomic_write
from causalcxr.graph import Graph
from causalcxr.interventions import Intervention

__all__ = ["SCHEMA", "load_pairs", "save_pairs", "write_pairs"]

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
) -> Pairs:
    """Compute and write the worlds, then judge what was written, and return it.

    Args:
        made: The worlds, images not yet computed.
        graph: What the columns mean.
        action: What is done.
        folder: A new one, or one of the same job that was interrupted.
        reader: Who reads attributes off images.
        gates: Where the gates stand.

    Raises:
        AuditError: If the folder holds something else.
        CohortError: If a world cannot be written.
    """
    _write_worlds(folder, made.worlds, dict(made.about) | action.bind(graph).to_json())
    pairs = Pairs.of(
        graph,
        action=action,
        **{name: Cohort.load(folder / name) for name in made.worlds},
        reader=reader,
        gates=gates,
        flags=made.flags,
        plausibility=made.plausibility,
        about=made.about,
    )
    _write_rest(pairs, folder)
    return pairs


def save_pairs(pairs: Pairs, folder: Path) -> Path:
    """Write pairs that have been judged.

    Raises:
        AuditError: If the folder holds something else.
        CohortError: If a world cannot be written.
    """
    _write_worlds(folder, pairs.worlds, dict(pairs.about))
    _write_rest(pairs, folder)
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
        worlds = {name: Cohort.load(folder / name) for name in about.pop("worlds")}
        gates = pd.read_csv(
            folder / "pairs.csv", dtype={"why": str, **dict.fromkeys(GATES, float)}
        )
        gates = gates[["changed", "known", *GATES, "why", "valid"]].fillna({"why": ""})
        gates.index = worlds["factual"].index
        spread = pd.read_csv(folder / "amplification.csv", keep_default_na=False)
        graph = Graph.load(folder / "graph.yaml")
    except AuditError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise AuditError(
            f"{folder}: holds no complete pairs ({error}); write them with `causalcxr pairs`"
        ) from None
    return Pairs(graph, worlds, gates, spread, about)


def _write_worlds(folder: Path, worlds: Mapping[str, Cohort], about: Mapping[str, Any]) -> None:
    """Write each world, whole or not at all; one that is there already, of the same job, stays."""
    save = import_module("causalcxr.sources.folder").save
    manifest = folder / _MANIFEST
    ours = not folder.exists() or _kind(manifest) == _KIND or (folder / ".pairs").is_file()
    if not ours and any(folder.iterdir()):
        raise AuditError(f"{folder}: is not empty and holds no pairs; give a new folder")
    manifest.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / ".pairs", "")
    for name, cohort in worlds.items():
        asked = json.loads(json.dumps({"world": name, **about}))
        if _made_from(folder / name / _MANIFEST) != asked:
            save(cohort, folder / name, "png" if cohort.has_images else None, asked)


def _write_rest(pairs: Pairs, folder: Path) -> None:
    spread = pairs.amplification
    if not spread.shape[1]:
        spread = pd.DataFrame(columns=["variable", "level", "mean", "absolute", "se", "patients"])
    about = {"kind": _KIND, "schema": SCHEMA, "worlds": list(pairs.worlds), **pairs.about}
    atomic_write(folder / "pairs.csv", pairs.gates.to_csv())
    atomic_write(folder / "amplification.csv", spread.to_csv(index=False))
    atomic_write(folder / "graph.yaml", pairs.graph.to_yaml())
    atomic_write(folder / _MANIFEST, json.dumps(about, indent=1))
    (folder / ".pairs").unlink(missing_ok=True)


def _kind(manifest: Path) -> str | None:
    return _read(manifest).get("kind")


def _made_from(manifest: Path) -> Any:
    return _read(manifest).get("made_from")


def _read(manifest: Path) -> dict[str, Any]:
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
