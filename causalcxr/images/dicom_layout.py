"""The layout of the pixels of a DICOM file, checked before memory is allocated."""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset
from pydicom.encaps import generate_fragments, parse_basic_offsets
from pydicom.uid import UID, RLELossless

from causalcxr.images.decoded import ImageError, Limits
from causalcxr.images.png_and_jpeg import check_size, jpeg_frame

__all__ = ["PixelLayout", "check_frames", "note_shape", "read_layout"]

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420")
_BEGINS = (b"\xff\xd8", b"\xff\x4f")  # of a JPEG stream, of JPEG 2000


@dataclass(frozen=True)
class PixelLayout:
    """The layout of pixels: rows, columns, samples per pixel, and bits."""

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool
    photometric: str


def read_layout(path: Path, header: Dataset, limits: Limits, notes: list[str]) -> PixelLayout:
    """Return the layout of the pixels; contradictions are refused before memory is allocated."""
    photometric = str(header.get("PhotometricInterpretation") or "").strip().upper()
    rows, columns = (_whole(path, header, name) for name in ("Rows", "Columns"))
    # Check the size before anything of that size is allocated.
    check_size(path, rows, columns, limits)
    if not header.get("PixelData"):
        kind = "floats" if "FloatPixelData" in header or "DoubleFloatPixelData" in header else "no"
        raise ImageError("unsupported", path, f"{kind} pixels; integer pixels are read")
    frames = header.get("NumberOfFrames")
    if frames not in (None, "", 1):
        raise ImageError("frames", path, "NumberOfFrames is not 1; give one radiograph a file")
    samples = _whole(path, header, "SamplesPerPixel", 1, notes)
    allocated = _whole(path, header, "BitsAllocated")
    # A missing depth is that of the allocated bits, a missing HighBit the last stored bit.
    stored = _whole(path, header, "BitsStored", allocated, notes)
    high = _whole(path, header, "HighBit", stored - 1, notes)
    signed = _whole(path, header, "PixelRepresentation", 0, notes)
    if allocated not in (8, 16, 32):
        raise ImageError("unsupported", path, f"{allocated} bits a sample; 8, 16 or 32 are read")
    if not (1 <= stored <= allocated and stored - 1 <= high < allocated and signed in (0, 1)):
        detail = f"BitsAllocated {allocated}, BitsStored {stored}, HighBit {high} do not fit"
        raise ImageError("damaged", path, detail)
    # Grey levels and palettes have one sample a pixel, colours three.
    expected = {**dict.fromkeys(_GREY, 1), "PALETTE COLOR": 1, **dict.fromkeys(_COLOUR, 3)}
    if expected.get(photometric) != samples:
        shown = photometric[:20] if photometric in expected else "missing or unknown"
        detail = f"PhotometricInterpretation {shown} with {samples} samples a pixel"
        raise ImageError("photometric", path, f"{detail}; it is unclear which values are bright")
    return PixelLayout(rows, columns, samples, allocated, stored, high, bool(signed), photometric)


def _whole(
    path: Path,
    header: Dataset,
    name: str,
    default: int | None = None,
    notes: list[str] | None = None,
) -> int:
    """Return an attribute that must be a whole number; a default for a missing one is noted."""
    value = header.get(name)
    if value is None or value == "":
        if default is None:
            raise ImageError("damaged", path, f"{name} is missing")
        if notes is not None:
            notes.append(f"{name} is missing and taken as {default}")
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise ImageError("damaged", path, f"{name} is not a whole number")
    return int(value)


def note_shape(header: Dataset, notes: list[str]) -> None:
    """Note pixels that are not square: they are shown as they are stored."""
    ratio = header.get("PixelAspectRatio")
    if isinstance(ratio, Sequence) and len(ratio) == 2 and ratio[0] != ratio[1]:
        notes.append("pixels are not square, and shown as they are stored")


def check_frames(path: Path, header: Dataset, layout: PixelLayout, encapsulated: bool) -> None:
    """Refuse surplus frames, missing bytes, and streams of another size than the header."""
    data = header.PixelData
    if not isinstance(data, bytes):
        raise ImageError("damaged", path, "the pixels are not bytes")
    if encapsulated:
        _check_stream(path, data, layout, header.file_meta.TransferSyntaxUID)
        return
    pixels = layout.rows * layout.columns
    # 4:2:2 has colours at half the width: two samples a pixel.
    samples = 2 * pixels if layout.photometric == "YBR_FULL_422" else pixels * layout.samples
    expected = samples * layout.allocated // 8
    if len(data) < expected:
        detail = f"{len(data):,} of {expected:,} bytes of pixels; the file was cut short"
        raise ImageError("truncated", path, detail)
    # A few more bytes are padding; twice as many are a second frame.
    if len(data) >= max(2 * expected, expected + 2):
        detail = f"{len(data) // expected} frames of pixels; the header announces one"
        raise ImageError("frames", path, detail)


def _check_stream(path: Path, data: bytes, layout: PixelLayout, syntax: UID) -> None:
    """Check the header of the compressed image, which determines the memory of decoding."""
    try:
        file = io.BytesIO(data)
        offsets = parse_basic_offsets(file)
        fragments = list(generate_fragments(file))
    except Exception as error:
        kind = type(error).__name__
        raise ImageError("damaged", path, f"the compressed pixels are damaged ({kind})") from None
    # A frame may have several fragments: count those that begin one.
    begun = len(fragments) if syntax == RLELossless else sum(f[:2] in _BEGINS for f in fragments)
    if (frames := max(len(offsets), begun)) > 1:
        raise ImageError("frames", path, f"{frames} frames of pixels; the header announces one")
    first = fragments[0] if fragments else b""
    if not first:
        raise ImageError("truncated", path, "no compressed pixels; the file was cut short")
    if syntax == RLELossless:
        return  # run lengths cannot exceed the size of the frame, which is known
    size = _stream_size(first)
    if size is None:
        raise ImageError("damaged", path, "the compressed pixels have no known header")
    if size != (layout.rows, layout.columns, layout.samples):
        rows, columns, samples = size
        detail = (
            f"the compressed pixels are {rows}x{columns}x{samples}, the file says "
            f"{layout.rows}x{layout.columns}x{layout.samples}"
        )
        raise ImageError("damaged", path, detail)


def _stream_size(stream: bytes) -> tuple[int, int, int] | None:
    """Return rows, columns and samples of a JPEG, JPEG-LS or JPEG 2000 stream."""
    if stream[:2] == b"\xff\xd8":
        frame = jpeg_frame(stream)
        return None if frame is None else (frame.rows, frame.columns, frame.samples)
    place = stream[:4096].find(b"\xff\x4f\xff\x51")  # a codestream, or one in a JP2 box
    if place < 0 or len(stream) < place + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", stream, place + 8)
    (samples,) = struct.unpack_from(">H", stream, place + 40)
    return bottom - top, right - left, samples
