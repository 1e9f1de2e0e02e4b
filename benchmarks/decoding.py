"""The cost of decoding image files to grey values, and whether DCMTK gives the same values.

    python -m benchmarks decoding

The cost is processor time per file, which other work on the machine hardly affects. It is compared
with plain pydicom + Pillow: a script that reads a file, applies the modality and VOI LUTs, inverts
MONOCHROME1 and resizes to 512 x 512, without any check. Ours is measured in this process, and in
worker processes with limits; there the time of both sides and the start of the workers count. The
real files are those of CAUSALCXR_DATA (see docs/dicom.md). Each is read many times, so it comes
from the system's cache. The last column is the largest difference from the image of dcmj2pnm in
grey levels of 8 bits, if Debian's dcmtk is installed.
"""

import os
import resource
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

from benchmarks import Row, stopwatch
from causalcxr.images.decoding import Decoded, decode, decode_many, fitted

__all__ = ["main"]

_SIZE = (512, 512)
_SECONDS = 0.6  # of processor time for each measurement, approximately
# File -> the options of dcmj2pnm: the window or LUT that the header names.
_REAL = {
    "CR-MONO1-10-chest": ("+Wi", "1"), "WG04_RG1_J2KI": ("+Wi", "1"),
    "WG04_RG1_JLSN": ("+Wi", "1"), "WG04_RG3_J2KR": ("+Wi", "1"),
    "WG04_RG3_JLSL": ("+Wi", "1"), "WG04_RG3_JPLL": ("+Wi", "1"), "WG04_RG3_RLE": ("+Wi", "1"),
    "mlut_18": ("+Wm",), "vlut_04": ("+Wl", "1"), "nih_google_dx": (),
}  # fmt: skip


def main(quick: bool) -> list[Row]:
    """Return one row per file: the cost of reading it, and the difference from DCMTK."""
    warnings.simplefilter("ignore")
    seconds = _SECONDS / 5 if quick else _SECONDS
    data = Path(os.environ.get("CAUSALCXR_DATA", "../shared/data"))
    with tempfile.TemporaryDirectory() as folder:
        files = _write_files(Path(folder))
        real = [data / f"dicom/{name}.dcm" for name in _REAL]
        files |= {path.stem: [path] for path in real if path.exists()}
        small = sorted((data / "nih/images_128").glob("*.png"))[:200]
        files |= {"200 PNGs of NIH, 128 x 128": small} if small else {}
        return [_row(name, paths, seconds, Path(folder)) for name, paths in files.items()]


def _write_files(folder: Path) -> dict[str, list[Path]]:
    """Write an image of 2,048 x 2,048 with noise, as a PNG and as a JPEG."""
    random = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(2048.0), np.arange(2048.0)) * 15
    pixels = np.clip(ramp + random.normal(0, 60, ramp.shape), 0, 65535).astype(np.uint16)
    Image.fromarray(pixels).save(folder / "a.png")
    Image.fromarray((pixels // 257).astype(np.uint8)).save(folder / "a.jpg", quality=92)
    names = {"PNG, 16 bits, 2,048 x 2,048": "a.png", "JPEG, 8 bits, 2,048 x 2,048": "a.jpg"}
    return {label: [folder / name] for label, name in names.items()}


def _row(name: str, paths: list[Path], seconds: float, folder: Path) -> Row:
    plain = _cost(lambda: [_read_plainly(path) for path in paths], len(paths), seconds)
    ours = _cost(lambda: [_read(path) for path in paths], len(paths), seconds)
    files_to_decode = paths * max(1, int(5 * seconds / ours / len(paths)))
    count = os.cpu_count() or 1
    start = _processor_time()
    with stopwatch() as watch:
        results = list(decode_many(files_to_decode, count, size=_SIZE))
    spent = (_processor_time() - start) / len(files_to_decode)
    assert all(isinstance(result, Decoded) for result in results)
    return {
        "file": name,
        "kB": paths[0].stat().st_size // 1000,
        "pydicom + Pillow, ms": round(1e3 * plain, 1),
        "decode + fitted, ms": round(1e3 * ours, 1),
        "ratio": round(plain / ours, 2),
        "decode_many, ms": round(1e3 * spent, 1),
        f"files/s by {count} workers": round(len(files_to_decode) / watch.seconds, 1),
        "from DCMTK": _difference(paths[0], folder),
    }


def _cost(read: Callable[[], Any], count: int, seconds: float) -> float:
    """Return seconds of processor time per file; the first reading does not count."""
    read()
    start, n_files = time.process_time(), 0
    while (spent := time.process_time() - start) < seconds:
        read()
        n_files += count
    return spent / n_files


def _processor_time() -> float:
    """Return the processor time of this process and of its workers that have ended."""
    parts = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def _read(path: Path) -> np.ndarray:
    return fitted(decode(path).pixels, _SIZE)


def _read_plainly(path: Path) -> np.ndarray:
    """Read a file with pydicom and Pillow alone."""
    if path.suffix != ".dcm":
        image = Image.open(path)
        grey = np.asarray(image, dtype=np.float32) / (65535 if image.mode == "I;16" else 255)
    else:
        header = pydicom.dcmread(path, force=True)
        if "TransferSyntaxUID" not in header.file_meta:
            header.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        values = apply_modality_lut(pixel_array(header, raw=True), header)
        values = apply_voi_lut(values, header).astype(np.float32)
        grey = (values - values.min()) / max(float(np.ptp(values)), 1)
        grey = 1 - grey if header.PhotometricInterpretation == "MONOCHROME1" else grey
    small = Image.fromarray(grey).resize(_SIZE, Image.Resampling.BILINEAR)
    return np.rint(np.asarray(small) * 65535).astype(np.uint16)


def _difference(path: Path, folder: Path) -> object:
    """Return the largest difference from DCMTK's image, or "" without DCMTK."""
    if path.stem not in _REAL or shutil.which("dcmj2pnm") is None:
        return ""
    program, source = "dcml2pnm" if "_JLS" in path.stem else "dcmj2pnm", path
    if "_J2K" in path.stem:  # DCMTK cannot decompress it: pydicom does, DCMTK renders it
        header = pydicom.dcmread(path)
        header.decompress()
        source = folder / "plain.dcm"
        header.save_as(source)
    command: Iterable[Any] = [program, "+op", *_REAL[path.stem], source, folder / "a.pgm"]
    subprocess.run(command, check=True, capture_output=True)
    reference = np.asarray(Image.open(folder / "a.pgm")).astype(int)
    return int(np.abs(np.rint(decode(path).pixels / 257).astype(int) - reference).max())
