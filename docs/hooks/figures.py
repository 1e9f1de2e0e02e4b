"""Figures open at their full size when they are clicked."""

import re
from typing import Any

__all__ = ["on_page_content"]

_FIGURE = re.compile(r'<p>(<img [^>]*src="([^"]+)"[^>]*>)</p>')


def on_page_content(html: str, **_: Any) -> str:
    """Wrap each figure that is a paragraph of its own in a link to its file."""
    return _FIGURE.sub(r'<p><a class="figure" href="\2">\1</a></p>', html)
