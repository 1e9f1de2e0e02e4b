"""Formulas as MathML, which browsers draw by themselves: no script and no font is fetched."""

import re
from typing import Any

from latex2mathml.converter import convert

_INLINE = re.compile(r"\$`(.+?)`\$")
_ROOM = {  # that the converter leaves out
    "<mi>log</mi>": '<mi>log</mi><mspace width=".17em"></mspace>',
    "<mi>&#x0007E;</mi>": '<mo lspace=".28em" rspace=".28em">&#x0223C;</mo>',
    "<mi>&#x027FA;</mi>": '<mo lspace=".5em" rspace=".5em">&#x027FA;</mo>',
}
_BLOCK = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the two forms in which the pages write formulas."""
    markdown = _BLOCK.sub(lambda found: f"<div>{_drawn(found[1], 'block')}</div>", markdown)
    # In a span: Markdown takes a line that begins with <math> for a paragraph of its own.
    return _INLINE.sub(lambda found: f"<span>{_drawn(found[1], 'inline')}</span>", markdown)


def _drawn(formula: str, display: str) -> str:
    words = formula.strip().replace(r"\arg\max", r"\mathrm{arg\,max}")
    drawn = convert(words, display=display)
    if "\\" in drawn:
        raise ValueError(f"formula {words!r}: a command of it is not known; write it otherwise")
    for tight, wide in _ROOM.items():
        drawn = drawn.replace(tight, wide)
    return drawn
