"""The frame of every page of the explorer: header, navigation and main region."""

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path

from nicegui import ui

__all__ = ["PAGES", "STATIC", "page_frame"]

STATIC = Path(__file__).parent / "static"
PAGES = {"/": "Patient", "/graph": "Graph"}


@contextmanager
def page_frame(title: str, here: str) -> Iterator[None]:
    """Place the elements created inside it in the main region of a page, below the header.

    Args:
        title: The heading of the page.
        here: The path of the page, one of `PAGES`.
    """
    style = (STATIC / "app.css").read_text(encoding="utf-8")
    ui.add_head_html(f"<style>{style}</style>")
    ui.html(_header(title, here), sanitize=False, tag="header").classes("cx-bar")
    # NiceGUI puts the page into its own `main` element.
    with ui.element("div").classes("cx-main").props("id=main tabindex=-1"):
        yield


def _header(title: str, here: str) -> str:
    current = {path: ' aria-current="page"' if path == here else "" for path in PAGES}
    links = "".join(f'<a href="{p}"{current[p]}>{escape(name)}</a>' for p, name in PAGES.items())
    return (
        '<a class="cx-skip" href="#main">Skip to the page</a>'
        f'<h1><span class="cx-name">causalcxr</span> {escape(title)}</h1>'
        f'<nav aria-label="Pages">{links}</nav>'
        '<p class="cx-mark">Synthetic images. Not for clinical use.</p>'
    )
