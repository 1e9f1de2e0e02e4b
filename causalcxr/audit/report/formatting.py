"""Numbers and names as text: fixed decimals, a minus sign, a dash for undefined."""

import math
import unicodedata
from typing import Any

__all__ = ["DASH", "interval", "number", "p_value", "percent", "printable", "shortened", "whole"]

DASH, MINUS = "–", "−"
_LEAST_P = 1e-4
_REPLACED = {"Cc", "Cf", "Cs", "Co", "Cn"}  # no glyph, or one that turns the text around it


def number(value: Any, digits: int = 3, signed: bool = False) -> str:
    """Return a number with fixed decimals; anything that is not a finite number is a dash.

    Example:
        >>> number(-0.0123), number(0.5, signed=True), number(float("nan"))
        ('−0.012', '+0.500', '–')
    """
    if not _finite(value):
        return DASH
    rounded = round(float(value), digits) + 0.0  # no minus before zero
    return f"{rounded:{'+' if signed and rounded else ''},.{digits}f}".replace("-", MINUS)


def percent(value: Any, digits: int = 1) -> str:
    """Return a share as a percentage.

    Example:
        >>> percent(0.0171).split()
        ['1.7', '%']
    """
    return f"{number(100 * float(value), digits)}\N{NO-BREAK SPACE}%" if _finite(value) else DASH


def whole(value: Any) -> str:
    """Return a count.

    Example:
        >>> whole(12034.0)
        '12,034'
    """
    return f"{round(float(value)):,}".replace("-", MINUS) if _finite(value) else DASH


def p_value(value: Any) -> str:
    """Return a p-value; a small one is "< 0.0001", never zero.

    Example:
        >>> p_value(0.04321), p_value(1e-9).split()
        ('0.0432', ['<', '0.0001'])
    """
    if not _finite(value):
        return DASH
    small = float(value) < _LEAST_P
    return f"<\N{NO-BREAK SPACE}{_LEAST_P:.4f}" if small else f"{float(value):.4f}"


def interval(low: Any, high: Any, digits: int = 3, signed: bool = False) -> str:
    """Return two bounds; one dash if neither is defined.

    Example:
        >>> interval(0.1, 0.25, 2)
        '0.10 to 0.25'
    """
    if not (_finite(low) or _finite(high)):
        return DASH
    return f"{number(low, digits, signed)} to {number(high, digits, signed)}"


def printable(text: Any) -> str:
    r"""Return a text in which characters without a glyph are replaced by a mark.

    Example:
        >>> printable("View\x00=AP")
        'View�=AP'
    """
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in _REPLACED else c
        for c in str(text)
    )


def shortened(text: Any, most: int = 28) -> str:
    """Return a text of at most `most` characters.

    Example:
        >>> shortened("Enlarged Cardiomediastinum=P", 12)
        'Enlarged Ca…'
    """
    shown = printable(text)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def _finite(value: Any) -> bool:
    try:
        return value is not None and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False
