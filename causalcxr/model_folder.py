"""A fitted model as a folder: safetensors and JSON, no pickle, never half-written.

Weights are written first, under names that contain their hash; then the manifest takes the place of the old one in one
step. So a kill at any moment leaves the previous model readable. The manifest holds the graph; `graph.yaml` beside it is
for people.
"""

import hashlib
import json
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalcxr.errors import ModelError
from causalcxr.files import atomic_write
from causalcxr.fitting import Fitted
from causalcxr.graph import Graph
from causalcxr.mechanisms import build
from causalcxr.tensors import load_tensors, pack_tensors, sha256

if TYPE_CHECKING:
    from causalcxr.scm import SCM

__all__ = ["SCHEMA", "load", "save", "versions"]

SCHEMA = 1


def versions() -> dict[str, str]:
    """Return the versions that a manifest records."""
    packages = {name: version(name) for name in ("causalcxr", "torch", "zuko", "numpy")}
    return {**packages, "python": platform.python_version()}


def _write_weights(folder: Path, name: str, fitted: Fitted) -> Path:
    """Write an equation under a name that contains the hash of its content, unless it is there."""
    about = {"variable": name, "hash": fitted.hash}
    content = pack_tensors(fitted.mechanism.state_dict(), about)
    digest = hashlib.sha256(content).hexdigest()[:8]
    path = folder / f"{re.sub('[^A-Za-z0-9_-]', '_', name)}-{digest}.safetensors"
    if not path.exists() or path.read_bytes() != content:
        atomic_write(path, content)
    return path


def save(model: "SCM", folder: Path) -> Path:
    """Write a model; see `SCM.save`."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "manifest.json").exists():
        if not (folder / "mechanisms").exists() and not (folder / "training").exists():
            raise ModelError(f"{folder}: not empty and not a model; choose another folder")
    weights = folder / "mechanisms"
    entries, keep = {}, set()
    for name, fitted in model.fitted.items():
        path = _write_weights(weights, name, fitted)
        keep.add(path.name)
        entries[name] = {
            "file": path.name, "sha256": sha256(path), "hash": fitted.hash, "equation": fitted.equation,
            "seed": fitted.seed, "rows": fitted.rows, "losses": fitted.losses,
        }
    manifest = {
        "schema": SCHEMA, "kind": "causalcxr model", "versions": versions(), "graph_hash": model.graph.hash,
        "trained_on": model.trained_on, "graph": model.graph.to_yaml(), "mechanisms": entries,
        "support": dict(model.support), "unseen": sorted(model.unseen),
    }
    atomic_write(folder / "manifest.json", json.dumps(manifest, indent=1))
    atomic_write(folder / "graph.yaml", model.graph.to_yaml())
    log = "".join(
        json.dumps({"variable": name, "split": split, "step": step, "loss": loss}) + "\n"
        for name, fitted in model.fitted.items()
        for split, losses in fitted.losses.items()
        for step, loss in enumerate(losses)
    )
    atomic_write(folder / "train.jsonl", log)
    for path in weights.glob("*.safetensors"):
        if path.name not in keep:
            path.unlink()
    return folder


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder}: no model here (manifest.json is absent); fit one first") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); restore it or fit again") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != "causalcxr model":
        raise ModelError(f"{path}: not the manifest of a model; fit one first")
    if manifest.get("schema") != SCHEMA:
        raise ModelError(f"{path}: schema {manifest.get('schema')!r}, this version reads {SCHEMA}; fit again")
    return manifest


def load(folder: Path) -> dict[str, Any]:
    """Read the fields of a model; see `SCM.load`."""
    manifest = _manifest(folder)
    graph = Graph.parse(manifest["graph"], name=str(folder / "manifest.json"))
    fitted = {}
    for name, entry in manifest["mechanisms"].items():
        path = folder / "mechanisms" / Path(entry["file"]).name
        if not path.is_file() or sha256(path) != entry["sha256"]:
            state = "has been changed since it was saved" if path.is_file() else "is absent"
            raise ModelError(f"{path}: {state}; restore it or fit again")
        variable = graph[name]
        mechanism = build(variable, [graph[p] for p in variable.parents])
        tensors, _ = load_tensors(path)
        try:
            mechanism.load_state_dict(tensors)
        except RuntimeError as error:
            raise ModelError(f"{path}: does not fit {name!r} ({str(error).splitlines()[0]})") from None
        mechanism.eval().requires_grad_(False)
        keys = ("equation", "hash", "seed", "rows", "losses")
        fitted[name] = Fitted(mechanism, **{key: entry[key] for key in keys})
    return {
        "graph": graph, "fitted": fitted, "support": manifest["support"],
        "trained_on": manifest["trained_on"], "unseen": frozenset(manifest["unseen"]),
    }
