"""From stored values to grey: modality LUT, then VOI LUT or window, then MONOCHROME1 once.

The order is that of PS3.3 C.7.6.3.1.2, C.11.1 and C.11.2 of the DICOM standard. The whole chain is
a function of one stored value, so it is computed once for each value, in double precision, and
looked up for each pixel.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset

from causalcxr.images.decoded import ImageError

__all__ = ["GreyChain"]

_WIDEST = 2**20  # the largest range of values for which a table is used
_SLIP = 1e-6  # 100 times a slope of 0.29 is 28.999999999999996, but 29 is meant


def _linear(x: np.ndarray, centre: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1; a width of 1 is a step."""
    if width == 1:
        return (x > centre - 0.5).astype(np.float64)
    return (x - (centre - 0.5)) / (width - 1) + 0.5


def _linear_exact(x: np.ndarray, centre: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.3.2."""
    return (x - centre) / width + 0.5


def _sigmoid(x: np.ndarray, centre: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.3.1."""
    return 1 / (1 + np.exp(-np.clip(4 * (x - centre) / width, -700, 700)))


# VOI LUT Function -> the function, and the narrowest width that it allows.
_FUNCTIONS: dict[str, tuple[Callable[[np.ndarray, float, float], np.ndarray], float]] = {
    "LINEAR": (_linear, 1.0),
    "LINEAR_EXACT": (_linear_exact, 1e-12),
    "SIGMOID": (_sigmoid, 1e-12),
}


_Ends = tuple[float, float]  # the lowest and the highest of some values


def _ends(values: np.ndarray) -> _Ends:
    return float(values.min()), float(values.max())


def _is_useful(x: np.ndarray, shades: np.ndarray) -> bool:
    """Return whether different values get different greys; a wrong window gives only one."""
    return np.ptp(x) == 0 or np.ptp(np.clip(shades, 0, 1)) > 0


def _with_sign(first: int, count: int, possible: _Ends) -> int:
    """Return a 16-bit number that denotes values, interpreted as signed or unsigned.

    Its VR, US or SS, is that of the values (PS3.3 C.11.1.1, C.11.2.1.1): SS if they can be
    negative. Implicit VR does not record it, and explicit VR is often wrong, so the interpretation
    is the one that lies within the possible values.

    Args:
        first: The number in either interpretation: a padding value, or the first that a LUT maps.
        count: The number of values that begin with it.
        possible: The lowest and the highest possible value.
    """
    unsigned = first % 2**16
    signed = (unsigned ^ 2**15) - 2**15
    low, high = possible
    either = (signed, unsigned) if low < 0 else (unsigned, signed)
    return next((n for n in either if n <= high and n + count > low), either[0])


@dataclass
class GreyChain:
    """Convert stored values to grey values, dense bright.

    Args:
        header: The attributes of the image.
        path: The file, for messages.
        notes: Decisions are appended to it.

    Attributes:
        window: The source of the range of grey values, in words.
    """

    header: Dataset
    path: Path
    notes: list[str] = field(default_factory=list)
    window: str = ""

    def pixels(self, stored: np.ndarray, bits: int) -> np.ndarray:
        """Return grey values, uint16 over the whole range.

        Args:
            stored: Shape (H, W), unsigned integers, or int32 or int64.
            bits: The bits of a stored value; 8 bits without a window are grey values already.
        """
        low, high = int(stored.min()), int(stored.max())
        signed = self.header.get("PixelRepresentation") == 1
        possible = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        ends = self._without_padding(stored, low, high, possible)
        # Compute each possible value once, and look up the pixels.
        if high - low < _WIDEST:
            values = np.arange(low, high + 1, dtype=np.float64)
            return self._grey(values, ends, possible, bits)[stored - low]
        values = stored.astype(np.float64).ravel()
        return self._grey(values, ends, possible, bits).reshape(stored.shape)

    def _grey(self, values: np.ndarray, ends: _Ends, possible: _Ends, bits: int) -> np.ndarray:
        """Return the grey of stored values.

        Args:
            values: Stored values.
            ends: The lowest and highest of them that are not padding.
            possible: The lowest and highest possible stored value.
            bits: The bits of a stored value.
        """
        # Modality step, then the VOI LUT or window, if the file has one.
        x, out = self._modality(values, possible)
        inside = (values >= ends[0]) & (values <= ends[1])
        shades = self._by_window(x, inside, out)
        if shades is None:
            # Neither: spread the values that occur, or all possible values of 8 bits.
            shown = x[inside]
            if bits <= 8 and "ModalityLUTSequence" not in self.header:  # grey values already
                every = possible if ends[0] < 0 else (0, 2**bits - 1)
                shown, _ = self._modality(np.array(every, dtype=np.float64), possible)
            elif not inside.all():
                self._note("padding left out of the range")
            low, high = _ends(shown)
            self.window = f"range {low:g} {high:g}"
            shades = (x - low) / (high - low) if high > low else np.zeros_like(x)
        # Values beyond the window are black or white; white is low in an inverted image.
        shades = np.clip(shades, 0, 1)
        return np.rint(65535 * (1 - shades if self._inverted() else shades)).astype(np.uint16)

    def _without_padding(
        self, stored: np.ndarray, low: int, high: int, possible: _Ends
    ) -> tuple[int, int]:
        """Return the lowest and the highest stored value that are not padding."""
        padding = self._number("PixelPaddingValue")
        if padding is None:
            return low, high
        limit = self._number("PixelPaddingRangeLimit")
        # The ends may be in either order, and written with the other sign.
        first, last = sorted(
            _with_sign(int(end), 1, possible)
            for end in (padding, padding if limit is None else limit)
        )
        if last < low or first > high:
            return low, high
        inside = stored[(stored < first) | (stored > last)]
        return (int(inside.min()), int(inside.max())) if inside.size else (low, high)

    def _modality(self, x: np.ndarray, possible: _Ends) -> tuple[np.ndarray, _Ends]:
        """Return the output of the modality step, and the ends of its possible outputs."""
        if items := self.header.get("ModalityLUTSequence"):
            table = self._table(items[0], "modality LUT", possible)
            return table.look_up(x), (0, table.most)
        slope, intercept = self._number("RescaleSlope"), self._number("RescaleIntercept")
        if slope is None and intercept is None:
            return x, possible
        if slope == 0:
            self._note("a rescale slope of 0 is ignored")
            slope = None
        slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
        return x * slope + intercept, _ends(np.array(possible) * slope + intercept)

    def _by_window(self, x: np.ndarray, inside: np.ndarray, out: _Ends) -> np.ndarray | None:
        """Return the grey values by the file's VOI LUT or window, None without either.

        Args:
            x: The output of the modality step.
            inside: Which values are not padding.
            out: The ends of the possible outputs of the modality step.
        """
        if items := self.header.get("VOILUTSequence"):
            table = self._table(items[0], "VOI LUT", out)
            shades = table.look_up(x) / table.most
            if _is_useful(x[inside], shades[inside]):
                self.window = "VOI LUT"
                return shades
            self._note("a VOI LUT that shows all values as one grey level is ignored")
        if (window := self._window()) is not None:
            name, centre, width = window
            shades = _FUNCTIONS[name][0](x, centre, width)
            if _is_useful(x[inside], shades[inside]):
                self.window = f"{name} {centre:g} {width:g}"
                return shades
            self._note("a window outside all values is ignored")
        return None

    def _window(self) -> tuple[str, float, float] | None:
        """Return the function, centre and width of the first window that can be used."""
        centre, width = self._number("WindowCenter"), self._number("WindowWidth")
        if centre is None or width is None:
            return None
        name = str(self.header.get("VOILUTFunction") or "LINEAR").strip().upper()
        if name not in _FUNCTIONS:
            self._note("an unknown VOI LUT function is taken as LINEAR")
            name = "LINEAR"
        if width < _FUNCTIONS[name][1]:
            self._note("a window that is too narrow is ignored")
            return None
        return name, centre, width

    def _inverted(self) -> bool:
        """Return whether low values are bright; two attributes may declare it."""
        name = str(self.header.get("PhotometricInterpretation") or "").strip().upper()
        shape = str(self.header.get("PresentationLUTShape") or "").strip().upper()
        # PS3.3 C.11.6.1.1: INVERSE accompanies MONOCHROME1, and means the same.
        if shape == "INVERSE" and name == "MONOCHROME2":
            self._note("presentation LUT shape INVERSE contradicts MONOCHROME2 and is ignored")
        return name == "MONOCHROME1"

    def _number(self, keyword: str) -> float | None:
        """Return the first value of an attribute as a finite number, or None."""
        value: Any = self.header.get(keyword)
        # Of several values the first counts.
        if value is None or isinstance(value, str):
            first = value
        else:
            first = value[0] if hasattr(value, "__len__") and len(value) else value
        try:
            number = float(first)
        except (TypeError, ValueError):
            number = math.nan
        if math.isfinite(number):
            return number
        if first not in (None, ""):
            self._note(f"{keyword} is not a number and is ignored")
        return None

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _table(self, item: Dataset, what: str, possible: _Ends) -> "_Table":
        """Read a LUT (PS3.3 C.11.1.1), whose data are words, bytes, or one number.

        Args:
            item: The item of the sequence.
            what: Its name in messages.
            possible: The ends of the values that can be looked up.
        """
        try:
            entries, first, bits = (int(value) for value in item.LUTDescriptor)
            data = item.LUTData
        except (AttributeError, TypeError, ValueError):
            raise self._damaged(what, "has no descriptor or no data") from None
        entries = entries % 2**16 or 2**16  # 0 means 65536; a signed interpretation is undone
        if isinstance(data, bytes):
            little = getattr(self.header, "original_encoding", (None, True))[1] is not False
            # Too few bytes for words of 16 bits: each byte is an entry.
            narrow = entries <= len(data) < 2 * entries
            kind = "u1" if narrow else "<u2" if little else ">u2"
            data = np.frombuffer(data[: len(data) // 2 * 2] if not narrow else data, dtype=kind)
        levels = np.atleast_1d(np.asarray(data, dtype=np.int64))[:entries] % 2**16
        if len(levels) < entries:
            raise self._damaged(what, f"has {len(levels)} of {entries} entries")
        # The depth must hold the largest entry.
        needed = int(levels.max()).bit_length()
        if not 8 <= bits <= 16 or bits < needed:
            self._note(f"the depth of the {what} is derived from its entries")
            bits = max(8, needed)
        first = _with_sign(first, entries, possible)
        return _Table(levels.astype(np.float64), first, 2.0**bits - 1)

    def _damaged(self, what: str, detail: str) -> ImageError:
        return ImageError("damaged", self.path, f"the {what} {detail}")


@dataclass(frozen=True)
class _Table:
    """A LUT; values below its first or above its last entry get that entry."""

    levels: np.ndarray
    first: int
    most: float

    def look_up(self, x: np.ndarray) -> np.ndarray:
        """Return the entries of values."""
        positions = np.floor(x + _SLIP)
        return self.levels[np.clip(positions - self.first, 0, len(self.levels) - 1).astype(int)]
