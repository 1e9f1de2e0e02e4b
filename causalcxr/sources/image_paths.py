"""Where the images of a source are: names from its table, matched with what its folders hold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.common.listing import leads_out, names_within
from causalcxr.common.progress import progress
from causalcxr.sources.harmonised import ImagePaths, Ledger
from causalcxr.sources.source_rows import Rows

__all__ = ["ImageFiles"]


@dataclass(frozen=True)
class ImageFiles:
    """Say where the images of a source are.

    Only names that a folder itself lists are ever given out: a name that climbs out of the folder
    (`../`), an absolute one, or a link that leads outside is no image of the source.

    Args:
        name: The path of each record's image under one of the folders, shape (n,), as texts;
            None where the source has no images.
        folders: Where to look, under the folder of the source; patterns are allowed, and the
            first folder that has a file gives it.
        suffixes: Endings under which the same image may be published instead, tried in order.
        also: Another path under which it may be, where `name` is not there.
    """

    name: Callable[[Rows], np.ndarray] | None = None
    folders: tuple[str, ...] = (".",)
    suffixes: tuple[str, ...] = ()
    also: Callable[[Rows], np.ndarray] | None = None

    def found(self, folder: Path, rows: Rows, ledger: Ledger) -> ImagePaths:
        """Return the files of the records, and write down what is not there.

        Args:
            folder: The folder of the source.
            rows: Its rows.
            ledger: Where unsafe names and the number of images found are written down.
        """
        if self.name is None:
            return ImagePaths.none(len(rows))
        within = np.full(len(rows), -1, dtype=np.int32)
        chosen, places = np.full(len(rows), "", dtype=object), []
        unsafe = np.zeros(len(rows), dtype=bool)
        roots = [root for pattern in self.folders for root in _matching(folder, pattern)]
        for root in [each for each in roots if _linked_away(each, folder)]:
            roots.remove(root)
            why = f"{root.name} is a link that leads out of {folder}, so its images are not used"
            ledger.fact("images-linked-away", why)
        for name in (self.name, self.also):
            if name is None:
                continue
            names = pd.Series(name(rows), dtype=object)
            directory, _, base = names.str.rpartition("/").to_numpy(object).T
            codes, directories = pd.factorize(directory)
            unsafe |= np.array([_climbs(text) for text in directories], dtype=bool)[codes]
            for root in roots:
                listings = _Listings(root)
                asked = progress(range(len(directories)), f"Looking into {root.name}", "folders")
                present = [k for k in asked if listings.of(directories[k])]
                if present:
                    wanted = (within < 0) & ~unsafe & np.isin(codes, present) & (base != "")
                    self._match(
                        listings, present, directories, codes, base, wanted, within, chosen, places
                    )
        why = "the image's path leads out of the folder; the record has no image"
        ledger.note("image-path-unsafe", why, unsafe)
        found, rows_kept = int(((within >= 0) & ledger.kept).sum()), int(ledger.kept.sum())
        some = f"images: {found:,} of {rows_kept:,} records have one"
        ledger.fact("images", some if found else "no images here")
        return ImagePaths(places, within, chosen)

    def _match(
        self,
        listings: "_Listings",
        present: Sequence[int],
        directories: np.ndarray,
        codes: np.ndarray,
        base: np.ndarray,
        wanted: np.ndarray,
        within: np.ndarray,
        chosen: np.ndarray,
        places: list[Path],
    ) -> None:
        """Give each record that wants an image the file of its name, where a folder lists it."""
        number = np.full(len(directories), -1, dtype=np.int32)
        number[present] = np.arange(len(present), dtype=np.int32) + len(places)
        places += [listings.root / directories[k] for k in present]
        held = [(directories[k], listings.of(directories[k])) for k in present]
        index = pd.Index([f"{at}/{name}" for at, names in held for name in names], dtype=object)
        for suffix in ("", *self.suffixes):
            rows = np.flatnonzero(wanted & (within < 0))
            names = pd.Series(base[rows], dtype=object)
            if suffix:
                names = names.str.replace(r"\.\w+$", "", regex=True) + suffix
            keys = pd.Index(directories[codes[rows]] + "/" + names.to_numpy(object), dtype=object)
            hit = index.get_indexer(keys) >= 0
            within[rows[hit]] = number[codes[rows[hit]]]
            chosen[rows[hit]] = names.to_numpy(object)[hit]


class _Listings:
    """What the folders under a root hold, each listed once; one that is not there is empty."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[str, dict[str, bool]] = {}

    def of(self, directory: str) -> dict[str, bool]:
        """Return the entries of a folder by name, and whether each is a folder."""
        if directory not in self._names:
            parent, _, last = directory.rpartition("/")
            there = not directory or self.of(parent).get(last, False)
            names = names_within(self.root / directory, self.root) if there else {}
            self._names[directory] = names
        return self._names[directory]


def _linked_away(root: Path, folder: Path) -> bool:
    """Return whether a folder of images is a link to somewhere else, or lies behind one."""
    within = root != folder / ".."  # the source itself says that images lie beside its folder
    return within and leads_out(root, folder)


def _climbs(directory: str) -> bool:
    return directory.startswith("/") or ".." in directory.split("/") or "\0" in directory


def _matching(folder: Path, pattern: str) -> list[Path]:
    if pattern in (".", ".."):
        return [folder / pattern] if pattern == ".." else [folder]
    return sorted(path for path in folder.glob(pattern) if path.is_dir())
