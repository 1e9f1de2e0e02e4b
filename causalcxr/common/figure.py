"""A figure that a notebook displays without pyplot."""

from io import BytesIO
from pathlib import Path
from typing import Self

from matplotlib.figure import Figure

from causalcxr.common.files import atomic_write

__all__ = ["Page"]


class Page(Figure):
    """A matplotlib figure that is displayed in a notebook, and nowhere else.

    Example:
        >>> Page(figsize=(1, 1)).png()[1:4]
        b'PNG'
    """

    def png(self) -> bytes:
        """Return the drawing as the content of a PNG file."""
        content = BytesIO()
        self.savefig(content, format="png", dpi=150, facecolor="white")
        return content.getvalue()

    def written(self, path: str | Path | None) -> Self:
        """Return the page, and write it to a file if a path is given."""
        if path is not None:
            atomic_write(path, self.png())
        return self

    def _repr_png_(self) -> bytes:
        return self.png()
