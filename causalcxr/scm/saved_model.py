"""A fitted model as a folder: safetensors and JSON, no pickle, never half-written.

Weights are written first, under names that contain their hash; then the manifest replaces the old
one in one step. So a process that is killed at any moment leaves the previous model readable. The
manifest holds the graph; `graph.yaml` beside it is for readers.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalcxr.common.digests import file_digest
from causalcxr.common.errors import CausalCXRError, ModelError
from causalcxr.common.files import atomic_write, cannot_write, remove_litter
from causalcxr.common.locks import exclusive
from causalcxr.common.tensors import load_tensors, pack_tensors
from causalcxr.common.versions import versions
from causalcxr.graph.graph import Graph
from causalcxr.mechanisms import build
from causalcxr.scm.fitting import REVISION, Fitted
from causalcxr.scm.recipe import recipe_changes

if TYPE_CHECKING:
    from causalcxr.scm.scm import SCM

__all__ = [
    "SCHEMA",
    "check_target",
    "difference",
    "load",
    "save",
    "saved_graph",
    "write",
    "writing",
]

SCHEMA = 1

_KIND = "causalcxr model"
_LITTER = re.compile(r"\.(manifest\.json|graph\.yaml|train\.jsonl)\..*\.tmp")
_RECORDED = ("equation", "hash", "seed", "rows", "losses")
_LATER = ("reason", "recipe")  # also recorded; missing in models of earlier versions


def check_target(folder: Path) -> None:
    """Refuse to write a model into a folder that holds something else.

    A new folder, an empty one, and that of a model, complete or interrupted, are accepted.

    Raises:
        ModelError: Naming the folder.
    """
    try:
        names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written ({error.strerror or error})") from None
    if "manifest.json" in names:
        _manifest(folder)
    elif {name for name in names if not _LITTER.fullmatch(name)} - {"mechanisms", "training"}:
        raise ModelError(f"{folder}: is not empty and holds no model; choose another folder")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Lock a model's folder against other processes, and remove temporary files of earlier ones.

    Raises:
        ModelError: If the folder holds something else, cannot be written, or is in use.
    """
    # Once before the lock, for an early error, and once under it.
    check_target(folder)
    path = folder.absolute()
    busy = f"{folder}: another process is writing this model; wait until it ends"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(path.parent / f".{path.name}.lock", ModelError(busy)):
            check_target(folder)
            _clear(folder)
            yield
    except OSError as fault:
        raise cannot_write(folder, fault, ModelError) from None


def _clear(folder: Path) -> None:
    """Remove the temporary files that a killed process left."""
    for left in folder.glob(".*.tmp") if folder.is_dir() else ():
        if _LITTER.fullmatch(left.name):
            left.unlink(missing_ok=True)
    for part in ("mechanisms", "training"):
        remove_litter(folder / part)


def save(model: "SCM", folder: Path) -> Path:
    """Write a model; see `SCM.save`."""
    with writing(folder):
        write(model, folder)
    return folder


def load(folder: Path) -> dict[str, Any]:
    """Read the fields of a model; see `SCM.load`."""
    manifest = _manifest(folder)
    if manifest.get("schema") != SCHEMA:
        raise ModelError(
            f"{folder / 'manifest.json'}: schema {manifest.get('schema')!r}, this version reads "
            f"{SCHEMA}; fit again"
        )
    try:
        # The manifest's graph: `graph.yaml` is for readers.
        graph = Graph.parse(manifest["graph"], name=str(folder / "manifest.json"))
        return {
            "graph": graph,
            "fitted": {
                name: _read_equation(folder / "mechanisms", graph, name, entry)
                for name, entry in manifest["mechanisms"].items()
            },
            "support": manifest["support"],
            "trained_on": manifest["trained_on"],
            "unseen": frozenset(manifest["unseen"]),
        }
    except CausalCXRError as error:
        raise ModelError(str(error)) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, error) from None


def saved_graph(folder: Path) -> Graph:
    """Read the graph of a model without its weights.

    Raises:
        ModelError: If there is no model, or its manifest is damaged.
    """
    try:
        return Graph.parse(_manifest(folder)["graph"], name=str(folder / "manifest.json"))
    except CausalCXRError as error:
        raise ModelError(str(error)) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, error) from None


def difference(before: Path, after: Path) -> dict[str, str]:
    """Return which equations of two models were learned from something else, and what differs.

    Args:
        before: The folder of one model.
        after: The folder of the other.

    Raises:
        ModelError: If either is no model, or its manifest is damaged.
    """
    one, two = _manifest(before), _manifest(after)
    differences = {}
    try:
        for name, entry in two["mechanisms"].items():
            other = one["mechanisms"].get(name)
            # Equal hashes mean that both were learned from the same.
            if other is not None and other["hash"] != entry["hash"]:
                differences[name] = _difference(other.get("recipe"), entry.get("recipe"))
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(after, error) from None
    return differences


def _difference(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    if before and after:
        return "; ".join(recipe_changes(before, after)) or "its content differs"
    return "one of them was saved before models recorded what equations are learned from"


def _damaged(folder: Path, error: Exception) -> ModelError:
    text = f"damaged ({type(error).__name__}: {error}); restore it or fit again"
    return ModelError(f"{folder / 'manifest.json'}: {text}")


def write(model: "SCM", folder: Path) -> None:
    """Write a model to a folder that `writing` holds."""
    # Weights first: the manifest then lists files that exist.
    weights = folder / "mechanisms"
    paths = {name: _write_weights(weights, name, f) for name, f in model.fitted.items()}
    manifest = {
        "schema": SCHEMA,
        "kind": _KIND,
        "versions": versions(),
        "graph_hash": model.graph.hash,
        "trained_on": model.trained_on,
        "graph": model.graph.to_yaml(),
        "mechanisms": {name: _entry(f, paths[name]) for name, f in model.fitted.items()},
        "support": dict(model.support),
        "unseen": sorted(model.unseen),
    }
    # The manifest makes the folder a model.
    atomic_write(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    atomic_write(folder / "graph.yaml", model.graph.to_yaml())
    atomic_write(folder / "train.jsonl", _log(model))
    # Remove old weights last: an interrupted call leaves the earlier model complete.
    keep = {path.name for path in paths.values()}
    for path in weights.glob("*.safetensors"):
        if path.name not in keep:
            path.unlink(missing_ok=True)


def _write_weights(folder: Path, name: str, fitted: Fitted) -> Path:
    """Write an equation under a name that contains the hash of its content, unless it exists."""
    # A single key: safetensors writes several keys in an order that varies between calls.
    about = json.dumps({"variable": name, "hash": fitted.hash})
    content = pack_tensors(fitted.mechanism.state_dict(), {"equation": about})
    digest = hashlib.sha256(content).hexdigest()[:8]
    path = folder / f"{re.sub('[^A-Za-z0-9_-]', '_', name)}-{digest}.safetensors"
    if not path.exists() or path.read_bytes() != content:
        atomic_write(path, content)
    return path


def _entry(fitted: Fitted, path: Path) -> dict[str, Any]:
    """Return the manifest's entry for an equation."""
    about = {key: getattr(fitted, key) for key in (*_RECORDED, *_LATER)}
    return {"file": path.name, "sha256": file_digest(path), **about}


def _log(model: "SCM") -> str:
    """Return the losses of every fit, one per line."""
    rows = (
        {"variable": name, "split": split, "step": step, "loss": loss}
        for name, fitted in model.fitted.items()
        for split, losses in fitted.losses.items()
        for step, loss in enumerate(losses)
    )
    return "".join(json.dumps(row) + "\n" for row in rows)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"{folder}: no model here (manifest.json is missing); fit one first"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); restore it or fit again") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != _KIND:
        raise ModelError(f"{path}: is not the manifest of a model; give a model's folder")
    return manifest


def _read_equation(folder: Path, graph: Graph, name: str, entry: dict[str, Any]) -> Fitted:
    """Read one equation, and refuse it unless it is bit-exact as it was saved."""
    # The bare name: a manifest must not point outside its folder.
    path = folder / Path(entry["file"]).name
    if not path.is_file() or file_digest(path) != entry["sha256"]:
        state = "has been changed since it was saved" if path.is_file() else "is missing"
        raise ModelError(f"{path}: {state}; restore it or fit again")
    variable = graph[name]
    mechanism = build(variable, [graph[parent] for parent in variable.parents])
    tensors, _ = load_tensors(path)
    try:
        mechanism.load_state_dict(tensors)
    except RuntimeError as error:
        # A revision explains the misfit better than the names of tensors.
        reason = " ".join(str(error).split())[:200]
        learned = entry.get("recipe", {}).get("revision", 1)
        if learned != REVISION:
            reason = f"learned by revision {learned} of the equations, this version has {REVISION}"
        raise ModelError(f"{path}: does not fit {name!r} ({reason}); fit again") from None
    mechanism.eval().requires_grad_(False)
    later = {key: entry[key] for key in _LATER if key in entry}
    return Fitted(mechanism, **{key: entry[key] for key in _RECORDED}, **later)
