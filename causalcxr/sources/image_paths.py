"""The images of a source: names from its table, matched with the files in its folders."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.common.listing import leads_out, names_within
from causalcxr.common.progress import progress
from causalcxr.sources.harmonised import ImagePaths, Ledger
from causalcxr.sources.source_rows import Rows

__all__ = ["ImageFiles"]

ImageName = str | Callable[[Rows], np.ndarray]


@dataclass(frozen=True)
class ImageFiles:
    """Declare where the images of a source are.

    Only names that a folder itself lists are used: a name that leads out of the folder (`../`),
    an absolute path or a link to elsewhere is not an image of the source.

    Args:
        name: The path of each record's image under one of the folders: a column, or a function
            that returns texts, shape (n,). None if the source has no images.
        folders: The folders to search, relative to that of the source. Patterns are allowed; the
            first folder that has a file is used.
        suffixes: Other endings of the same image, tried in order.
        alternative: Another path of the image, used if `name` does not exist.
    """

    name: ImageName | None = None
    folders: tuple[str, ...] = (".",)
    suffixes: tuple[str, ...] = ()
    alternative: ImageName | None = None

    def locate(self, folder: Path, rows: Rows, ledger: Ledger) -> ImagePaths:
        """Return the files of the records.

        Args:
            folder: The folder of the source.
            rows: Its rows.
            ledger: Records unsafe names and the number of images.
        """
        if self.name is None:
            return ImagePaths.none(len(rows))
        search = _Search(len(rows), self.suffixes)
        roots = self._roots(folder, ledger)
        for name in (self.name, self.alternative):
            if name is not None:
                search.run(rows.texts(name) if isinstance(name, str) else name(rows), roots)
        why = "the image's path leads out of the folder; the record has no image"
        ledger.note("image-path-unsafe", why, search.unsafe)
        n_images = int(((search.within >= 0) & ledger.kept).sum())
        why = f"images: {n_images:,} of {int(ledger.kept.sum()):,} records have one"
        ledger.fact("images", why if n_images else "no images in this folder")
        return ImagePaths(search.places, search.within, search.names)

    def _roots(self, folder: Path, ledger: Ledger) -> list[Path]:
        """Return the folders to search, without links to elsewhere."""
        roots = []
        for root in (path for pattern in self.folders for path in _matching(folder, pattern)):
            if _linked_away(root, folder):
                why = f"{root.name} is a link out of {folder}, so its images are not used"
                ledger.fact("images-linked-away", why)
            else:
                roots.append(root)
        return roots


@dataclass
class _Search:
    """The search for the images of n records; the arrays are filled as files are found."""

    n: int
    suffixes: Sequence[str]
    places: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.within = np.full(self.n, -1, dtype=np.int32)  # positions in `places`
        self.names = np.full(self.n, "", dtype=object)
        self.unsafe = np.zeros(self.n, dtype=bool)

    def run(self, paths: np.ndarray, roots: Sequence[Path]) -> None:
        """Search every root for the records' paths, shape (n,)."""
        directory, _, base = pd.Series(paths, dtype=object).str.rpartition("/").to_numpy(object).T
        codes, directories = pd.factorize(directory)
        self.unsafe |= np.array([_climbs(text) for text in directories], dtype=bool)[codes]
        for root in roots:
            listings = _Listings(root)
            steps = progress(range(len(directories)), f"Searching {root.name}", "folders")
            existing = [k for k in steps if listings.entries(directories[k])]
            if existing:
                self._match(listings, existing, directories, codes, base)

    def _match(
        self,
        listings: "_Listings",
        existing: Sequence[int],
        directories: np.ndarray,
        codes: np.ndarray,
        base: np.ndarray,
    ) -> None:
        """Assign to each record without an image the file of its name, if a folder lists it."""
        # The number of each folder that exists, -1 for others.
        number = np.full(len(directories), -1, dtype=np.int32)
        number[existing] = np.arange(len(existing), dtype=np.int32) + len(self.places)
        self.places += [listings.root / directories[k] for k in existing]
        entries = [(directories[k], listings.entries(directories[k])) for k in existing]
        index = pd.Index([f"{at}/{name}" for at, names in entries for name in names], dtype=object)
        open_ = (self.within < 0) & ~self.unsafe & np.isin(codes, existing) & (base != "")
        # First the name as it is written, then with other suffixes.
        for suffix in ("", *self.suffixes):
            rows = np.flatnonzero(open_ & (self.within < 0))
            names = pd.Series(base[rows], dtype=object)
            if suffix:
                names = names.str.replace(r"\.\w+$", "", regex=True) + suffix
            keys = pd.Index(directories[codes[rows]] + "/" + names.to_numpy(object), dtype=object)
            hit = index.get_indexer(keys) >= 0
            self.within[rows[hit]] = number[codes[rows[hit]]]
            self.names[rows[hit]] = names.to_numpy(object)[hit]


class _Listings:
    """The entries of the folders under a root; each is listed once, a missing one is empty."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[str, dict[str, bool]] = {}

    def entries(self, directory: str) -> dict[str, bool]:
        """Return the entries of a folder by name, and whether each is a folder."""
        if directory not in self._names:
            parent, _, last = directory.rpartition("/")
            exists = not directory or self.entries(parent).get(last, False)
            names = names_within(self.root / directory, self.root) if exists else {}
            self._names[directory] = names
        return self._names[directory]


def _linked_away(root: Path, folder: Path) -> bool:
    """Return whether a folder of images is a link to elsewhere, or lies behind one."""
    is_within = root != folder / ".."  # a source may declare that images lie beside its folder
    return is_within and leads_out(root, folder)


def _climbs(directory: str) -> bool:
    return directory.startswith("/") or ".." in directory.split("/") or "\0" in directory


def _matching(folder: Path, pattern: str) -> list[Path]:
    if pattern in (".", ".."):
        return [folder / pattern] if pattern == ".." else [folder]
    return sorted(path for path in folder.glob(pattern) if path.is_dir())
