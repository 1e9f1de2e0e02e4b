"""A figure that shows itself in a notebook without pyplot, and is not kept alive by it."""

from io import BytesIO
from pathlib import Path
from typing import Self

from matplotlib.figure import Figure

from causalcxr.common.files import atomic_write

__all__ = ["Page"]


class Page(Figure):
    """Hold a drawing; a notebook shows it, nothing else does.

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
        """Return the page, written to a file if one is given."""
        if path is not None:
            atomic_write(path, self.png())
        return self

    def _repr_png_(self) -> bytes:
        return self.png()
