"""Formulas as MathML, which browsers render without scripts or fonts from other hosts."""

import re
from typing import Any

from latex2mathml.converter import convert

_INLINE = re.compile(r"\$`(.+?)`\$")
_SPACING = {  # that the converter omits
    "<mi>log</mi>": '<mi>log</mi><mspace width=".17em"></mspace>',
    "<mi>&#x0007E;</mi>": '<mo lspace=".28em" rspace=".28em">&#x0223C;</mo>',
    "<mi>&#x027FA;</mi>": '<mo lspace=".5em" rspace=".5em">&#x027FA;</mo>',
}
_BLOCK = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace inline formulas and blocks of formulas."""
    markdown = _BLOCK.sub(lambda match: f"<div>{_mathml(match[1], 'block')}</div>", markdown)
    # In a span, because Markdown makes a paragraph of a line that begins with <math>.
    return _INLINE.sub(lambda match: f"<span>{_mathml(match[1], 'inline')}</span>", markdown)


def _mathml(formula: str, display: str) -> str:
    words = formula.strip().replace(r"\arg\max", r"\mathrm{arg\,max}")
    mathml = convert(words, display=display)
    if "\\" in mathml:
        raise ValueError(f"formula {words!r} has an unknown command; write it without the command")
    for tight, wide in _SPACING.items():
        mathml = mathml.replace(tight, wide)
    return mathml
