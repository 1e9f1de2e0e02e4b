"""A folder of results: written beside its place by one process at a time, verified when read.

    .<name>.lock                  held by the process that writes
    .<name>.unfinished/job.json   the identity: everything that determines the result
    .<name>.unfinished/result/    the folder while it is written
    .<name>.unfinished/complete/  the same once its manifest is written and all is on disk
    .<name>.unfinished/old/       the replaced folder, while the two are exchanged

A result therefore never appears half-written under its own name. `manifest.json` is written last
and holds the identity and the SHA-256 of `SHA256SUMS`, which lists the SHA-256 of every other file
as `sha256sum --check` reads it. The same command, run again after a kill, resumes from the
unfinished folder; once the result is complete, it does nothing. With `overwrite` a complete
result is computed again, and replaced only when the new one is complete.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from causalcxr.common.digests import file_digest
from causalcxr.common.errors import CausalCXRError, CohortError
from causalcxr.common.files import atomic_write, cannot_write, remove_litter, sync_all, sync_one
from causalcxr.common.locks import exclusive
from causalcxr.common.result_digests import (
    MANIFEST,
    SUMS,
    Digests,
    listed_files,
    manifest_of,
    read_json,
)

__all__ = ["Draft", "ResultFolder"]

_COMPLETE = "complete already, nothing to do; --overwrite (overwrite=True) makes it again"


@dataclass
class Draft:
    """The folder that receives the files of a result; `finish` is called last.

    Args:
        place: The folder to fill, or the result itself if it is complete already.
        complete: Whether the result exists already, so that there is nothing to do.
        resumed: Whether an interrupted run left files in the folder.
    """

    place: Path
    complete: bool = False
    resumed: bool = False
    _base: Mapping[str, Any] = field(default_factory=dict)

    def finish(
        self, about: Mapping[str, Any], digests: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Write the list of digests and, last, the manifest, which is returned.

        Args:
            about: Further entries of the manifest.
            digests: Digests already computed, by path in the folder; other files are read.
        """
        # Remove what a killed run left, so that it is not listed.
        remove_litter(self.place)
        _remove_unfinished(self.place)
        names = listed_files(self.place)
        known = digests or {}
        # A digest that the caller has computed while writing is not computed again.
        rows = [f"{known.get(name) or file_digest(self.place / name)}  {name}\n" for name in names]
        sums = "".join(rows).encode()
        atomic_write(self.place / SUMS, sums)
        # Write the manifest last: a folder without one is incomplete.
        manifest = {
            **self._base,
            **about,
            "files_sha256": hashlib.sha256(sums).hexdigest(),
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        atomic_write(self.place / MANIFEST, text)
        return manifest


@dataclass(frozen=True)
class ResultFolder:
    """Write one result to a folder, completely or not at all.

    Args:
        path: The folder: new, empty, or one of the same kind, which `overwrite` replaces.
        kind: Its kind in the manifest, such as "causalcxr twins".
        words: Its name in messages, such as "twins".
        identity: Everything that determines the result, as JSON. An interrupted run of the same
            identity is resumed, and a complete result with it is kept. None if there is no
            identity: nothing is then resumed or kept.
        overwrite: Compute a complete result again, and replace one with another identity.
            Unfinished work is resumed if the identity is the same, and discarded if not.
        error: The class of the errors to raise.
        recognises: Whether a folder without such a manifest was written by an older version.
        thorough: Whether every byte is read before a result counts as complete.
        tell: Receives one line if there is nothing to do.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as home:
        ...     result = ResultFolder(Path(home) / "r", "note", "a note", {"seed": 1})
        ...     with result.writing() as draft:
        ...         _ = (draft.place / "note.txt").write_text("done")
        ...         _ = draft.finish({"words": 1})
        ...     with result.writing() as draft:
        ...         draft.complete, sorted(file.name for file in draft.place.iterdir())
        (True, ['SHA256SUMS', 'manifest.json', 'note.txt'])
    """

    path: Path
    kind: str
    words: str
    identity: Mapping[str, Any] | None = None
    overwrite: bool = False
    error: type[CausalCXRError] = CohortError
    recognises: Callable[[Path], bool] = lambda _: False
    thorough: bool = True
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr)

    @property
    def hidden(self) -> Path:
        """The folder beside the result in which it is written."""
        path = self.path.absolute()
        return path.parent / f".{path.name}.unfinished"

    def is_same(self) -> bool:
        """Return whether the folder holds a result with this identity."""
        manifest = manifest_of(self.path, self.kind)
        return (
            self.identity is not None
            and manifest is not None
            and manifest.get("identity") == self._identity()
        )

    def check_foreign(self) -> None:
        """Refuse a folder that holds something else, before the identity is known.

        Raises:
            CausalCXRError: Naming the place.
        """
        self._check_place(self.path, before_lock=True)

    def check(self) -> None:
        """Refuse a folder that the result cannot be written to, before it is computed.

        Raises:
            CausalCXRError: With what is there, and what to do.
        """
        complete = self.hidden / "complete"
        self._check_place(complete if complete.is_dir() else self.path)
        self._check_unfinished()

    @contextmanager
    def writing(self) -> Iterator[Draft]:
        """Give a folder to fill; at the end it replaces `path`.

        Raises:
            CausalCXRError: If the folder holds something else or cannot be written, or another
                process is writing it.
        """
        # Refuse before anything is created.
        self._check_place(self.path, before_lock=True)
        path = self.path.absolute()
        busy = f"{self.path}: another process is writing it at this moment; wait until it ends"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with exclusive(path.parent / f".{path.name}.lock", self.error(busy)):
                # Finish what a killed process began.
                self._recover()
                if self._is_complete():
                    self._discard()
                    self.tell(f"{self.path}: {_COMPLETE}")
                    yield Draft(self.path, complete=True)
                    return
                # Check again: another process may have written before this one had the lock.
                self._check_place(self.path)
                self._check_unfinished()
                yield from self._filled()
        except OSError as fault:
            raise cannot_write(self.path, fault, self.error, inside=self.hidden) from None

    # The steps of writing

    def _filled(self) -> Iterator[Draft]:
        """Give the folder to fill, and move it to its place at the end."""
        place = self.hidden / "result"
        resumed = self._prepare(place)
        base = {"kind": self.kind}
        if self.identity is not None:
            base["identity"] = self._identity()
        try:
            yield Draft(place, resumed=resumed, _base=base)
        except BaseException:
            # Without an identity it cannot be resumed; an empty folder need not be kept.
            if self.identity is None or not any(place.iterdir()):
                self._discard()
            raise
        # Sync first: the name `complete` must always mean complete files.
        sync_all(place)
        place.rename(self.hidden / "complete")
        self._recover()

    def _prepare(self, place: Path) -> bool:
        """Create the folder to fill; return whether an interrupted run left files in it."""
        job = None if self.identity is None else json.dumps(self._identity(), indent=1)
        ticket = self.hidden / "job.json"
        if job is None or read_json(ticket) != self._identity():
            self._discard()
        self.hidden.mkdir(exist_ok=True)
        if job is not None and not ticket.exists():
            atomic_write(ticket, job)
        place.mkdir(exist_ok=True)
        remove_litter(self.hidden)
        return any(place.iterdir())

    def _recover(self) -> None:
        """Finish an exchange that a kill may have interrupted: `complete` becomes the result."""
        complete, old, path = self.hidden / "complete", self.hidden / "old", self.path.absolute()
        if complete.is_dir():
            # A folder with files cannot be replaced in one step: move it aside first.
            if path.exists() and not old.exists():
                path.rename(old)
            elif path.is_dir():  # created again between the two steps, and empty
                path.rmdir()
            complete.rename(path)
            # The new result must be in its place on disk before the old one is removed.
            sync_one(path.parent)
            self._discard()
        elif old.is_dir() and not path.exists():  # left by version 0.1.0
            old.rename(path)
        elif old.is_dir() and any(
            path.iterdir()
        ):  # killed when only the old one was left to remove
            self._discard()

    def _discard(self) -> None:
        """Remove the hidden folder; `old` is renamed first, so that it is complete or gone."""
        old, gone = self.hidden / "old", self.hidden / "gone"
        if old.exists():
            shutil.rmtree(gone, ignore_errors=True)
            old.rename(gone)
        # Without job.json, the rest of the folder is never resumed after a kill.
        (self.hidden / "job.json").unlink(missing_ok=True)
        shutil.rmtree(self.hidden, ignore_errors=True)

    # Checks

    def _identity(self) -> dict[str, Any]:
        """Return the identity as it is when read from JSON."""
        return json.loads(json.dumps({"version": version("causalcxr"), **(self.identity or {})}))

    def _is_complete(self) -> bool:
        """Return whether this result exists, unchanged in every byte, and is to be kept."""
        if self.overwrite or not self.is_same():
            return False
        digests = Digests(self.path, manifest_of(self.path, self.kind) or {}, self.error)
        damaged = digests.damaged() if self.thorough else digests.missing()
        if damaged:
            raise self.error(
                f"{self.path / damaged[0]}: missing or changed since it was written; restore it, "
                "or write the folder again with --overwrite (overwrite=True)"
            )
        return True

    def _check_place(self, path: Path, *, before_lock: bool = False) -> None:
        """Refuse a folder that holds something else, or another result without `overwrite`."""
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise self.error(
                f"{self.path}: holds something else than {self.words}; give another folder"
            )
        if path.is_mount():
            raise self.error(
                f"{self.path}: a mounted folder cannot be replaced; give a folder inside it"
            )
        if not path.exists() or not any(path.iterdir()):
            return
        manifest = manifest_of(path, self.kind)
        if manifest is None and not self.recognises(path):
            raise self.error(
                f"{self.path}: holds something else than {self.words}; give another folder"
            )
        if self.overwrite or before_lock:
            return
        # The same inputs mean the same result, which may stay.
        held = (manifest or {}).get("identity")
        if self.identity is not None and held == self._identity():
            return
        difference = self._differences(held)
        raise self.error(
            f"{self.path}: holds {self.words} already{difference}; give another folder, or "
            "--overwrite (overwrite=True) to replace it"
        )

    def _check_unfinished(self) -> None:
        """Refuse unfinished work of another command, which `overwrite` discards."""
        result = self.hidden / "result"
        if self.overwrite or not result.is_dir() or not any(result.iterdir()):
            return
        job = read_json(self.hidden / "job.json")
        if isinstance(job, dict) and (self.identity is None or job != self._identity()):
            raise self.error(
                f"{self.path}: another command or version has unfinished work here"
                f"{self._differences(job)}; run that command again, give another folder, or use "
                "--overwrite (overwrite=True) to discard it"
            )

    def _differences(self, held: Any) -> str:
        """Return which settings of the existing result differ, in words."""
        if not isinstance(held, dict) or self.identity is None:
            return ""
        wanted = self._identity()
        differing = [key for key in {**held, **wanted} if held.get(key) != wanted.get(key)]
        words = [_difference(key, held.get(key), wanted.get(key)) for key in differing[:3]]
        return f" ({'; '.join(words)})" if words else ""


def _remove_unfinished(place: Path) -> None:
    """Remove what a kill left beside the results inside, all of which are complete by now."""
    for left in list(place.rglob(".*.unfinished")):
        shutil.rmtree(left)
    for left in list(place.rglob(".*.lock")):
        left.unlink()


def _difference(key: str, held: Any, wanted: Any) -> str:
    """Return one differing setting in words."""
    if max(len(json.dumps(held)), len(json.dumps(wanted))) > 60:
        return f"another {key}"
    return f"{key} {held}, not {wanted}"
