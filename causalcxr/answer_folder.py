"""Answers on the disk: a table, a picture, or a folder with both and a manifest."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from causalcxr.errors import CohortError
from causalcxr.files import atomic_write
from causalcxr.model_folder import versions
from causalcxr.spreadsheet import csv_text

__all__ = ["Answer", "check_place", "write_answer"]

_KIND = "causalcxr answer"


@dataclass(frozen=True)
class Answer:
    """What is written.

    Args:
        question: The verb.
        tables: By name, the one that a .csv gets first.
        about: What was asked of what, for the manifest: JSON.
        page: What can be looked at, if anything.
    """

    question: str
    tables: Mapping[str, pd.DataFrame]
    about: Mapping[str, Any]
    page: Figure | None = None


def check_place(out: Path, *, drawn: bool) -> None:
    """Refuse a place that an answer cannot go to, before it is worked out.

    Args:
        out: A file that ends in .csv or .png, or a folder: new, empty, or of an earlier answer.
        drawn: Whether the question has a picture.

    Raises:
        CohortError: Naming the place and what would do.

    Example:
        >>> check_place(Path("effect.png"), drawn=False)
        Traceback (most recent call last):
        ...
        causalcxr.errors.CohortError: effect.png: this question has no picture; give a .csv or ...
    """
    allowed = "a .csv, a .png or a folder" if drawn else "a .csv or a folder"
    if out.suffix == ".png" and not drawn:
        raise CohortError(f"{out}: this question has no picture; give {allowed}")
    if out.suffix in (".csv", ".png"):
        if out.is_dir():
            raise CohortError(f"{out}: this is a folder; give the name of a file")
    elif out.is_file() or out.suffix in (".html", ".json", ".pdf", ".svg"):
        raise CohortError(f"{out}: no such format; give {allowed}")
    elif out.exists() and any(out.iterdir()) and _files_of(out) is None:
        raise CohortError(f"{out}: holds something else than an answer; give another folder")


def write_answer(answer: Answer, out: Path) -> dict[Path, str]:
    """Write an answer; of a folder the manifest comes last, and says that all is there.

    Args:
        answer: What to write.
        out: See `check_place`.

    Returns:
        What was written, with a few words about each.

    Raises:
        CohortError: If the place will not do, or cannot be written.
    """
    check_place(out, drawn=answer.page is not None)
    try:
        if out.suffix == ".csv":
            (name, table), *_ = answer.tables.items()
            return {atomic_write(out, _csv(table)): f"{len(table):,} rows: {name}"}
        if out.suffix == ".png":
            return {atomic_write(out, answer.page.png()): "picture"}
        return _write_folder(answer, out)
    except OSError as error:
        raise CohortError(f"{out}: cannot be written ({error.strerror or error})") from None


def _write_folder(answer: Answer, folder: Path) -> dict[Path, str]:
    for name in _files_of(folder) or ():
        (folder / name).unlink(missing_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    files = {}
    for name, table in answer.tables.items():
        path = folder / f"{name.replace(' ', '-')}.csv"
        files[atomic_write(path, _csv(table))] = f"{len(table):,} rows"
    if answer.page is not None:
        path = folder / f"{answer.question}.png"
        files[atomic_write(path, answer.page.png())] = "picture"
    manifest = {
        "kind": _KIND,
        "question": answer.question,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "asked": dict(answer.about),
        "files": [path.name for path in files],
        "versions": versions(),
    }
    path = folder / "manifest.json"
    files[atomic_write(path, json.dumps(manifest, indent=1) + "\n")] = "what was asked of what"
    return files


def _files_of(folder: Path) -> list[str] | None:
    """Return the files of an earlier answer, None where there is none."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(manifest, dict) and manifest.get("kind") == _KIND
    # A manifest that was tampered with must not delete what lies elsewhere.
    return [Path(name).name for name in manifest.get("files", [])] if ours else None


def _csv(table: pd.DataFrame) -> str:
    """Return a table as text, (variable, level) as one heading; nothing is lost to rounding."""
    if table.columns.nlevels > 1:
        table = table.set_axis([_heading(*pair) for pair in table.columns], axis=1)
    return csv_text(table, index=table.index.names != [None])


def _heading(variable: str, level: str) -> str:
    return f"{variable}={level}" if level else variable
