"""Tables of model cards, from the JSON files next to the weights."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

WEIGHTS = Path(__file__).parents[2] / "causalcxr" / "radit" / "bundled"
_MARK = re.compile(r"^<!-- card (\S+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marker of a card by a table of its entries."""
    return _MARK.sub(lambda match: "\n".join(_table(match[1])), markdown)


def _table(name: str) -> Iterable[str]:
    card = json.loads((WEIGHTS / name).read_text(encoding="utf-8"))
    yield "| | |\n| --- | --- |"
    for key, value in card.items():
        if isinstance(value, list) or key == "started_from":
            continue  # losses, and the cards of earlier weights: in the file itself
        yield f"| {key.replace('_', ' ')} | {_as_text(value)} |"


def _as_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_as_text(each)}" for key, each in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and value > 9999 else str(value)
