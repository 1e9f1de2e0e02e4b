"""The entries of a folder, without links that lead out of it."""

import os
from pathlib import Path

__all__ = ["leads_out", "names_within"]


def leads_out(path: str | Path, root: str | Path) -> bool:
    """Return whether a path, links followed, lies outside a folder.

    Example:
        >>> leads_out("/data/nih/images/../../../etc", "/data/nih")
        True
    """
    real, top = os.path.realpath(path), os.path.realpath(root)
    return os.path.commonpath([real, top]) != top


def names_within(folder: str | Path, root: str | Path) -> dict[str, bool]:
    """Return the entries of a folder by name, and whether each is a folder itself.

    Links that lead out of the root are left out; a folder that cannot be listed is empty.

    Args:
        folder: The folder to list.
        root: The folder that nothing may lead out of.
    """
    try:
        with os.scandir(folder) as entries:
            return {
                entry.name: entry.is_dir()
                for entry in entries
                if not (entry.is_symlink() and leads_out(entry.path, root))
            }
    except OSError:
        return {}
