"""Pages and files of the repository outside docs/: part of the site, without copies.

README.md is the first page of the site; results, log and changelog are pages, too. All other files
that a page links to (a graph, a notebook, a script) become files of the site under their own path.
So the same link works on a code host and in the site.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
# Page of the site -> file of the repository.
PAGES = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "benchmarks/RESULTS.md": "benchmarks/RESULTS.md",
    "benchmarks/LOG.md": "benchmarks/LOG.md",
    "benchmarks/scm/README.md": "benchmarks/scm/README.md",
    "benchmarks/gpu/README.md": "benchmarks/gpu/README.md",
}
_SITE = {path: page for page, path in PAGES.items()}
_FENCE = re.compile(r"^ {0,3}(```|~~~)")
_LINK = re.compile(r"(\]\()(?![a-z]+:|#|/)([^)\s#]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages, and all files that pages link to."""
    for page, path in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    for file in files.documentation_pages():
        for path in sorted(set(_linked_paths(file))):
            outside = not path.startswith(("docs/", "../")) and path not in _SITE
            if outside and (ROOT / path).is_file() and path not in files.src_uris:
                files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace links between files of the repository by links between pages of the site."""
    source = page.file.src_uri
    home, here = dirname(_path(source)), dirname(source)

    def site_link(match: re.Match[str]) -> str:
        target = normpath(join(home, match[2]))
        site = _SITE.get(target, target.removeprefix("docs/"))
        return match[1] + relpath(site, here or ".")

    return "\n".join(
        _LINK.sub(site_link, line) if text else line
        for text, line in _lines(markdown.splitlines())
    )


def _path(source: str) -> str:
    return PAGES.get(source, f"docs/{source}")


def _linked_paths(file: File) -> Iterable[str]:
    """Yield the paths that a page links to, relative to the root of the repository."""
    path = _path(file.src_uri)
    for text, line in _lines((ROOT / path).read_text(encoding="utf-8").splitlines()):
        if text:
            yield from (normpath(join(dirname(path), link)) for _, link in _LINK.findall(line))


def _lines(lines: Iterable[str]) -> Iterable[tuple[bool, str]]:
    """Yield for each line whether it is text (not code), and the line."""
    fenced = False
    for line in lines:
        fence = bool(_FENCE.match(line))
        yield not (fenced or fence or line.startswith("    ")), line
        fenced ^= fence
