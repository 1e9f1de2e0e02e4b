"""Decoding of DICOM files to grey values."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, pixel_array

from causalcxr.common.errors import install
from causalcxr.images.decoded import Decoded, ImageError, Limits
from causalcxr.images.dicom_grey import GreyChain
from causalcxr.images.dicom_layout import PixelLayout, check_frames, note_shape, read_layout
from causalcxr.images.dicom_parse import is_synthetic, parsed
from causalcxr.images.png_and_jpeg import COLOUR, luminance

__all__ = ["decode_dicom"]


def decode_dicom(path: Path, content: bytes, limits: Limits) -> Decoded:
    """Return the grey values of a DICOM file; see `decode`.

    Files of old archives without preamble are read if a data set begins at the first byte, with
    an entry in `notes`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of pydicom may contain values of the header
            return _decoded(path, content, limits)
    except (ImageError, MemoryError):
        raise
    # Values are parsed at their first use, so that damage may appear anywhere. The text of
    # pydicom's errors may contain a value of the header, so only the class is shown.
    except Exception as error:
        kind = type(error).__name__
        raise ImageError(
            "damaged", path, f"the header is damaged ({kind}); send it again"
        ) from None


def _decoded(path: Path, content: bytes, limits: Limits) -> Decoded:
    notes: list[str] = []
    header = parsed(path, content, limits, notes)
    layout = read_layout(path, header, limits, notes)
    note_shape(header, notes)
    encapsulated = header.file_meta.TransferSyntaxUID.is_encapsulated
    # Check the number of bytes before they are decoded.
    check_frames(path, header, layout, encapsulated)
    if encapsulated or layout.samples == 3:
        frame = _frame(path, header, layout)
    else:
        frame = _plain_frame(header, layout)
    if layout.samples == 3 or layout.photometric == "PALETTE COLOR":
        pixels, window = _from_colour(frame, header, layout), "none"
        notes.append(COLOUR)
    else:
        # From stored values to grey: modality step, window, inversion.
        chain = GreyChain(header, path, notes)
        stored = _stored_values(frame, layout, encapsulated, notes)
        with np.errstate(all="ignore"):
            pixels, window = chain.pixels(stored, layout.stored), chain.window
    about: dict[str, Any] = {
        "format": "DICOM", "rows": layout.rows, "columns": layout.columns, "bits": layout.stored,
        "photometric": layout.photometric, "window": window,
        "transfer_syntax": header.file_meta.TransferSyntaxUID.name,
        "lossy": str(header.get("LossyImageCompression") or "") == "01",
        "synthetic": is_synthetic(header), "notes": notes,
    }  # fmt: skip
    return Decoded(np.ascontiguousarray(pixels), layout.stored, about)


def _plain_frame(header: Dataset, layout: PixelLayout) -> np.ndarray:
    """Return an uncompressed grey frame with all stored bits, (H, W).

    pydicom clears the bits above BitsStored, whatever HighBit is.
    """
    data, big = header.PixelData, not header.file_meta.TransferSyntaxUID.is_little_endian
    size, count = layout.allocated // 8, layout.rows * layout.columns
    if big and size == 1 and header["PixelData"].VR == "OW":  # words of two samples, swapped
        values = np.frombuffer(data[: len(data) // 2 * 2], dtype="u1").reshape(-1, 2)[:, ::-1]
        values = values.ravel()[:count]
    else:
        values = np.frombuffer(data, dtype=f"{'>' if big else '<'}u{size}", count=count)
    native = values.astype(f"{'i' if layout.signed else 'u'}{size}", copy=False)
    return native.reshape(layout.rows, layout.columns)


def _frame(path: Path, header: Dataset, layout: PixelLayout) -> np.ndarray:
    """Return the only frame as it is stored, (H, W) or (H, W, 3), colours as RGB."""
    # Derived attributes are written back, as the decoders read the data set.
    header.SamplesPerPixel, header.BitsStored, header.HighBit = (
        layout.samples, layout.stored, layout.high,
    )  # fmt: skip
    header.PixelRepresentation = int(layout.signed)
    header.PhotometricInterpretation = layout.photometric
    if layout.samples == 3 and "PlanarConfiguration" not in header:
        header.PlanarConfiguration = 0
    header.NumberOfFrames = 1
    try:
        # Raw grey values; colours are converted to RGB.
        frame = pixel_array(header, raw=layout.samples == 1)
    except MemoryError:
        raise
    except NotImplementedError:
        name = header.file_meta.TransferSyntaxUID.name
        raise ImageError("unsupported", path, f"pixels in {name} are not read") from None
    except Exception as error:
        detail = " ".join(str(error).split())
        if "missing dependencies" in detail or "plugins are available" in detail:
            name = header.file_meta.TransferSyntaxUID.name
            remedy = install("codecs", "codecs-gpl")
            raise ImageError("codec", path, f"no decoder of {name}; {remedy}") from None
        kind = type(error).__name__
        raise ImageError("damaged", path, f"the pixels cannot be decoded ({kind})") from None
    if frame.shape[:2] != (layout.rows, layout.columns):
        raise ImageError("damaged", path, "the pixels are not of the size that the header claims")
    return frame


def _stored_values(
    frame: np.ndarray, layout: PixelLayout, encapsulated: bool, notes: list[str]
) -> np.ndarray:
    """Return the values between bit 0 and HighBit, unsigned or int32, to which LUTs apply.

    Old files have overlays in the bits above.
    """
    wide = np.int64 if frame.itemsize == 4 else np.int32  # room for differences of two values
    if layout.stored == layout.allocated or (encapsulated and not layout.signed):
        return frame.astype(wide) if layout.signed else frame
    # Unsigned, so that a shift to the right brings in zeros.
    raw = frame.view(f"u{frame.itemsize}")
    shift = 0 if encapsulated else layout.high + 1 - layout.stored
    values = (raw >> shift) & raw.dtype.type(2**layout.stored - 1)
    if shift:
        notes.append(f"values are in bits {shift} to {layout.high}")
    if not layout.signed:
        if not np.array_equal(raw >> shift, values):
            notes.append("bits above HighBit are ignored")
        return values
    # JPEG-LS has no sign: the bits above are zero, although the type is signed.
    values = values.astype(wide)
    # Two's complement: subtract 2**stored where the sign bit is set.
    return values - ((values >> (layout.stored - 1)) << layout.stored)


def _from_colour(frame: np.ndarray, header: Dataset, layout: PixelLayout) -> np.ndarray:
    """Return the luminance of a colour image, uint16 over the whole range."""
    bits = layout.stored
    if layout.photometric == "PALETTE COLOR":
        frame = apply_color_lut(frame, header)[..., :3]
        bits = 8 * frame.itemsize
    shades = luminance(frame) * (65535 / (2**bits - 1))
    return np.rint(shades.clip(0, 65535)).astype(np.uint16)
