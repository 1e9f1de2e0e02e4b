"""Facts of a card, read from the JSON that lies beside the weights."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

WEIGHTS = Path(__file__).parents[2] / "causalcxr" / "radit" / "bundled"
_MARK = re.compile(r"^<!-- card (\S+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put a table of the facts where a page names a card."""
    return _MARK.sub(lambda found: "\n".join(_table(found[1])), markdown)


def _table(name: str) -> Iterable[str]:
    card = json.loads((WEIGHTS / name).read_text(encoding="utf-8"))
    yield "| | |\n| --- | --- |"
    for key, value in card.items():
        if isinstance(value, list) or key == "started_from":
            continue  # losses, and the cards of earlier weights: in the file itself
        yield f"| {key.replace('_', ' ')} | {_said(value)} |"


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(each)}" for key, each in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and value > 9999 else str(value)
