"""From stored values to grey: modality LUT, then VOI LUT or window, then MONOCHROME1 once.

The order is that of PS3.3 C.7.6.3.1.2, C.11.1 and C.11.2 of the DICOM standard. The whole chain is
a function of one stored value, so it is computed once for each value that occurs, in double
precision, and looked up for each pixel.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset

from causalcxr.sources.decoded import ImageError

__all__ = ["GreyChain"]

_WIDEST = 2**20  # values between the lowest and the highest for which a table is made


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


@dataclass
class GreyChain:
    """Turn stored values into grey values between 0 and 1, dense bright.

    Args:
        header: The attributes of the image.
        path: For messages.
        notes: What had to be decided is added to it.

    Attributes:
        window: What the range of grey values was taken from, in words.
    """

    header: Dataset
    path: Path
    notes: list[str] = field(default_factory=list)
    window: str = ""

    def pixels(self, stored: np.ndarray, bits: int) -> np.ndarray:
        """Return grey values, uint16 over the whole range.

        Args:
            stored: Shape (H, W), unsigned integers, or int32 or int64.
            bits: Of a stored value; files of 8 bits without a window are grey values already.
        """
        low, high = int(stored.min()), int(stored.max())
        inverted = self._inverted()
        span = self._span(stored, low, high, bits)
        if high - low < _WIDEST:
            table = self._grey(np.arange(low, high + 1, dtype=np.float64), span, inverted)
            return table[stored - low]
        return self._grey(stored.astype(np.float64).ravel(), span, inverted).reshape(stored.shape)

    def _grey(self, values: np.ndarray, span: tuple[float, float], inverted: bool) -> np.ndarray:
        x, out = self._modality(values)
        shades = self._voi(x, span, out)
        shades = np.clip(shades, 0, 1)
        return np.rint(65535 * (1 - shades if inverted else shades)).astype(np.uint16)

    def _span(self, stored: np.ndarray, low: int, high: int, bits: int) -> tuple[float, float]:
        """Return the range of stored values that is shown where the file names none."""
        if bits <= 8 and "ModalityLUTSequence" not in self.header:
            signed = low < 0
            return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        padding = self._number("PixelPaddingValue")
        if padding is not None and low < high and padding in (low, high):
            inside = stored[stored != int(padding)]
            if inside.size:
                low, high = int(inside.min()), int(inside.max())
                self._note("padding left out of the range")
        return float(low), float(high)

    def _modality(self, x: np.ndarray) -> tuple[np.ndarray, float | None]:
        """Return what the modality LUT makes of values, and the highest that a table can give."""
        if items := self.header.get("ModalityLUTSequence"):
            table = self._table(items[0], "modality LUT")
            return table.of(x), table.most
        slope, intercept = self._number("RescaleSlope"), self._number("RescaleIntercept")
        if slope is None and intercept is None:
            return x, None
        if slope == 0:
            self._note("a rescale slope of 0 is ignored")
            slope = None
        return x * (1.0 if slope is None else slope) + (intercept or 0.0), None

    def _voi(self, x: np.ndarray, span: tuple[float, float], out: float | None) -> np.ndarray:
        """Return grey values of what the modality LUT gave: by LUT, by window, or by the range."""
        if items := self.header.get("VOILUTSequence"):
            table = self._table(items[0], "VOI LUT")
            self.window = "VOI LUT"
            return table.of(x) / table.most
        found = self._window()
        if found is not None:
            name, centre, width = found
            shades = _FUNCTIONS[name][0](x, centre, width)
            # A window that was written for other values than these shows a single grey.
            if np.ptp(x) == 0 or np.ptp(np.clip(shades, 0, 1)) > 0:
                self.window = f"{name} {centre:g} {width:g}"
                return shades
            self._note("a window outside all values is ignored")
        ends, _ = self._modality(np.array(span, dtype=np.float64))
        low, high = float(ends.min()), float(ends.max())
        if out is not None:
            low, high = float(x.min()), float(x.max())
        self.window = f"range {low:g} {high:g}"
        return (x - low) / (high - low) if high > low else np.zeros_like(x)

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
        """Return whether low values are bright, which is told twice and counts once."""
        name = str(self.header.get("PhotometricInterpretation") or "").strip().upper()
        shape = str(self.header.get("PresentationLUTShape") or "").strip().upper()
        # PS3.3 C.11.6.1.1: INVERSE goes with MONOCHROME1. It says the same once more.
        if shape == "INVERSE" and name == "MONOCHROME2":
            self._note("presentation LUT shape INVERSE contradicts MONOCHROME2 and is ignored")
        return name == "MONOCHROME1"

    def _number(self, keyword: str) -> float | None:
        """Return the first value of an attribute as a finite number, or None."""
        value: Any = self.header.get(keyword)
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
            self._note(f"{keyword} is no number and is ignored")
        return None

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _table(self, item: Dataset, what: str) -> "_Table":
        """Read a LUT (PS3.3 C.11.1.1), whose data come as words, as bytes, or as one number."""
        try:
            entries, first, bits = (int(value) for value in item.LUTDescriptor)
            data = item.LUTData
        except (AttributeError, TypeError, ValueError):
            raise self._damaged(what, "has no descriptor or no data") from None
        entries = entries % 2**16 or 2**16  # 0 stands for 65536; a signed reading is undone
        if isinstance(data, bytes):
            little = getattr(self.header, "original_encoding", (None, True))[1] is not False
            narrow = entries <= len(data) < 2 * entries
            kind = "u1" if narrow else "<u2" if little else ">u2"
            data = np.frombuffer(data[: len(data) // 2 * 2] if not narrow else data, dtype=kind)
        levels = np.atleast_1d(np.asarray(data, dtype=np.int64))[:entries] % 2**16
        if len(levels) < entries:
            raise self._damaged(what, f"has {len(levels)} of {entries} entries")
        needed = int(levels.max()).bit_length()
        if not 8 <= bits <= 16 or bits < needed:
            self._note(f"the depth of the {what} is derived from its entries")
            bits = max(8, needed)
        if first >= 2**15 and self.header.get("PixelRepresentation") == 1:
            first -= 2**16
        return _Table(levels.astype(np.float64), first, 2.0**bits - 1)

    def _damaged(self, what: str, told: str) -> ImageError:
        return ImageError("damaged", self.path, f"the {what} {told}")


@dataclass(frozen=True)
class _Table:
    """A LUT: what lies below its first value or above its last gets theirs."""

    levels: np.ndarray
    first: int
    most: float

    def of(self, x: np.ndarray) -> np.ndarray:
        """Return the entries of values."""
        return self.levels[np.clip(np.floor(x) - self.first, 0, len(self.levels) - 1).astype(int)]
