"""Answers on the disk: a table, a figure, or a folder with both and a manifest."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from glob import escape
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from causalcxr.common.errors import CohortError
from causalcxr.common.files import atomic_write, cannot_write
from causalcxr.common.locks import exclusive
from causalcxr.common.result_digests import content_identity
from causalcxr.common.result_folder import ResultFolder
from causalcxr.common.spreadsheet import headed_csv
from causalcxr.common.versions import versions

__all__ = ["WrittenAnswer", "check_place", "write_answer"]

_KIND = "causalcxr answer"


@dataclass(frozen=True)
class WrittenAnswer:
    """An answer to write.

    Args:
        question: The verb.
        tables: By name; a .csv file gets the first one.
        about: The settings, for the manifest, as JSON.
        page: The figure, if there is one.
    """

    question: str
    tables: Mapping[str, pd.DataFrame]
    about: Mapping[str, Any]
    page: Figure | None = None


def check_place(out: Path, *, drawn: bool) -> None:
    """Refuse a place that an answer cannot be written to, before it is computed.

    Args:
        out: A file that ends in .csv or .png, or a folder: new, empty, or of an earlier answer.
        drawn: Whether the answer has a figure.

    Raises:
        CohortError: Naming the place and what is allowed.

    Example:
        >>> check_place(Path("effect.png"), drawn=False)
        Traceback (most recent call last):
        ...
        causalcxr.common.errors.CohortError: effect.png: this answer has no figure; ...
    """
    allowed = "a .csv, a .png or a folder" if drawn else "a .csv or a folder"
    if out.suffix == ".png" and not drawn:
        raise CohortError(f"{out}: this answer has no figure; give {allowed}")
    if out.suffix in (".csv", ".png"):
        if out.is_dir():
            raise CohortError(f"{out}: this is a folder; give the name of a file")
    elif out.is_file() or out.suffix in (".html", ".json", ".pdf", ".svg"):
        raise CohortError(f"{out}: the format is not known; give {allowed}")
    else:
        _folder(out).check_foreign()


def write_answer(answer: WrittenAnswer, out: Path, *, overwrite: bool = False) -> dict[Path, str]:
    """Write an answer; in a folder the manifest is written last and completes it.

    Args:
        answer: The answer.
        out: See `check_place`.
        overwrite: Replace the answer that is there, even the same one.

    Returns:
        The files, each with a short description.

    Raises:
        CohortError: If the place is refused, or cannot be written.
    """
    check_place(out, drawn=answer.page is not None)
    if out.suffix == ".csv":
        (name, table), *_ = answer.tables.items()
        return {
            _write_file(out, headed_csv(table).encode(), overwrite): f"{len(table):,} rows: {name}"
        }
    if out.suffix == ".png":
        return {_write_file(out, answer.page.png(), overwrite): "figure"}
    return _write_folder(answer, out, overwrite)


def _write_file(out: Path, content: bytes, overwrite: bool) -> Path:
    """Write a file, unless it has this content already; replace another only with overwrite."""
    busy = CohortError(f"{out}: another process is writing it at this moment; wait for its end")
    path = out.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One writer at a time; what an interrupted one left is removed.
        with exclusive(path.parent / f".{path.name}.lock", busy):
            for litter in path.parent.glob(f".{escape(path.name[:60])}.*.tmp"):
                litter.unlink(missing_ok=True)
            # The same answer again is no error: nothing is written.
            if path.exists() and path.read_bytes() == content:
                return out
            if path.exists() and not overwrite:
                raise CohortError(
                    f"{out}: exists already, with other content; give another name, or --overwrite"
                )
            return atomic_write(out, content)
    except OSError as fault:
        raise cannot_write(out, fault) from None


def _folder(out: Path, identity: Mapping[str, Any] | None = None, overwrite: bool = False) -> Any:
    return ResultFolder(out, _KIND, "an answer", identity, overwrite)


def _write_folder(answer: WrittenAnswer, folder: Path, overwrite: bool) -> dict[Path, str]:
    texts = {f"{n.replace(' ', '-')}.csv": headed_csv(table) for n, table in answer.tables.items()}
    files = {
        name: f"{len(t):,} rows" for name, t in zip(texts, answer.tables.values(), strict=True)
    }
    if answer.page is not None:
        files[f"{answer.question}.png"] = "figure"
    # The identity of the folder: question, settings and the content of the tables.
    content = content_identity([*texts, *texts.values()])
    identity = {"question": answer.question, **answer.about, **content}
    with _folder(folder, identity, overwrite).writing() as draft:
        if not draft.complete:
            for name, text in texts.items():
                atomic_write(draft.place / name, text)
            if answer.page is not None:
                atomic_write(draft.place / f"{answer.question}.png", answer.page.png())
            about = {
                "question": answer.question,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "asked": dict(answer.about),
                "files": list(files),
                "versions": versions(),
            }
            draft.finish(about)
    files["manifest.json"] = "question, settings, versions"
    return {folder / name: text for name, text in files.items()}
