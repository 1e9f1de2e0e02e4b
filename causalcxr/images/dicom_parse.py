"""The attributes of a DICOM file that an image requires, and no others.

Names, dates and ids of patients are never read, so that no message can contain them.
"""

import io
import struct
import zlib
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from causalcxr.images.decoded import ImageError, Limits

__all__ = ["is_synthetic", "parsed"]

_LAYOUT = (
    "Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PlanarConfiguration", "PhotometricInterpretation", "NumberOfFrames",
)  # fmt: skip
_SHADES = (
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence", "WindowCenter",
    "WindowWidth", "VOILUTFunction", "PresentationLUTShape", "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)  # fmt: skip
_OTHER = (
    "SOPClassUID", "SyntheticData", "PixelAspectRatio", "LossyImageCompression", "PixelData",
    "FloatPixelData", "DoubleFloatPixelData", "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
)  # fmt: skip
_REQUESTED = [*_LAYOUT, *_SHADES, *_OTHER]
# An image can be shown without these; an invalid value is ignored, with a note.
_SPARE = (
    "WindowCenter", "WindowWidth", "VOILUTFunction", "PresentationLUTShape", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "PixelAspectRatio", "LossyImageCompression", "SOPClassUID",
    "SyntheticData",
)  # fmt: skip
# The start of compressed pixels. pydicom returns none if their end is missing.
_COMPRESSED = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff"
_ITEM = b"\xfe\xff\x00\xe0"


def parsed(path: Path, content: bytes, limits: Limits, notes: list[str]) -> Dataset:
    """Return the attributes that an image requires, its transfer syntax among them."""
    # With a preamble, DICM stands at byte 128.
    bare = content[128:132] != b"DICM"
    syntax, start = _transfer_syntax(content, 0 if bare else 132)
    # A small deflated file can inflate to any size: check first.
    if syntax == DeflatedExplicitVRLittleEndian:
        _check_inflated(path, content[start:], limits)
    try:
        header = dcmread(io.BytesIO(content), force=bare, specific_tags=_REQUESTED)
        _parse_values(header, notes)
    except MemoryError:
        raise
    except EOFError:
        raise ImageError("truncated", path, "the DICOM file ends too early") from None
    # A parser of damaged bytes may raise anything. The text of the error may contain a value of
    # the header, so only its class is shown.
    except Exception as error:
        kind = type(error).__name__
        raise ImageError("damaged", path, f"not a DICOM file that can be read ({kind})") from None
    # The pixels begin but were not read to an end.
    if not header.get("PixelData") and _COMPRESSED in content:
        raise ImageError("truncated", path, "the DICOM file ends within its pixels; send it again")
    if bare:
        notes.append("no preamble: read as a DICOM data set from its first byte")
    _set_transfer_syntax(path, header, notes)
    return header


def is_synthetic(header: Dataset) -> bool:
    """Return whether a file declares its image synthetic (0008,001C)."""
    return str(header.get("SyntheticData") or "").strip().upper() == "YES"


def _parse_values(header: Dataset, notes: list[str]) -> None:
    """Parse the values, which pydicom does at their first use."""
    for name in _REQUESTED:
        try:
            header.get(name)
        except (ValueError, TypeError, ArithmeticError):
            if name not in _SPARE:
                raise
            del header[Tag(name)]
            notes.append(f"{name} cannot be read and is ignored")


def _transfer_syntax(content: bytes, start: int) -> tuple[str, int]:
    """Return the transfer syntax of group 2, and the start of the data set."""
    place, syntax = start, ""
    # Group 2 has explicit types and is little endian in every file.
    while content[place : place + 2] == b"\x02\0" and place + 8 <= len(content):
        # These types have two reserved bytes, then a length of four bytes.
        if content[place + 4 : place + 6] in (b"OB", b"OW", b"UN", b"UT", b"SQ"):
            (length,) = struct.unpack_from("<I", content[place : place + 12].ljust(12, b"\0"), 8)
            value = place + 12
        else:
            (length,) = struct.unpack_from("<H", content, place + 6)
            value = place + 8
        # (0002,0010) is the transfer syntax.
        if content[place + 2 : place + 4] == b"\x10\0":
            syntax = content[value : value + length].rstrip(b"\0 ").decode("ascii", "replace")
        place = value + length
    return syntax, place


def _check_inflated(path: Path, deflated: bytes, limits: Limits) -> None:
    """Refuse a deflated data set that exceeds the limits."""
    inflater, total, data = zlib.decompressobj(-zlib.MAX_WBITS), 0, deflated
    try:
        while data and not inflater.eof:
            total += len(inflater.decompress(data, 2**24))
            data = inflater.unconsumed_tail
            if total > limits.bytes:
                detail = f"its data set inflates to more than {limits.bytes:,} bytes"
                raise ImageError("large", path, detail)
    except zlib.error:
        raise ImageError("damaged", path, "the deflated data set is damaged") from None


def _set_transfer_syntax(path: Path, header: Dataset, notes: list[str]) -> None:
    """Set a missing transfer syntax to the one by which the file was parsed."""
    if not hasattr(header, "file_meta"):
        header.file_meta = FileMetaDataset()
    named = header.file_meta.get("TransferSyntaxUID")
    if not named:
        # How the parser has read the file.
        implicit, little = header.original_encoding
        named = {
            (True, True): ImplicitVRLittleEndian,
            (False, True): ExplicitVRLittleEndian,
            (False, False): ExplicitVRBigEndian,
        }.get((implicit, little))
        if named is None or _looks_encapsulated(header):
            detail = "no transfer syntax is named, and the pixels are compressed; send it again"
            raise ImageError("unsupported", path, detail)
        header.file_meta.TransferSyntaxUID = named
        notes.append(f"no transfer syntax: read as {named.name}")
    elif not (UID(named).is_valid and UID(named).is_transfer_syntax):
        raise ImageError("unsupported", path, "its transfer syntax is unknown")


def _looks_encapsulated(header: Dataset) -> bool:
    data = header.get("PixelData")
    return isinstance(data, bytes) and data[:4] == _ITEM
