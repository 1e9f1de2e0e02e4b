"""Large text files read strictly: UTF-8, plain or gzip, with the line of the first bad byte."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from causalcxr.common.errors import CohortError

__all__ = ["TextLines", "open_lines", "read_whole"]

_MAX_BYTES = 8 * 2**30  # of text; a compressed file may not claim more either
_MAX_LINE = 2**30
_CHUNK = 2**20
_GZIP = b"\x1f\x8b"


class TextLines:
    """Iterate over the decoded lines of a text file; line ends stay as they are."""

    def __init__(self, path: Path, file: Any) -> None:
        self._path, self._bytes = path, _CheckedBytes(file)
        buffered = io.BufferedReader(self._bytes, _CHUNK)
        self._lines = io.TextIOWrapper(buffered, encoding="utf-8-sig", newline="")
        self._lines._CHUNK_SIZE = _CHUNK  # 8 KiB by default, which is slow

    @property
    def ends_with_newline(self) -> bool:
        """Whether what was read so far ends with the end of a line."""
        return self._bytes.ends_with_newline

    def __enter__(self) -> "TextLines":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def __iter__(self) -> Iterator[str]:
        try:
            yield from self._lines
        except (UnicodeDecodeError, _Unreadable) as error:
            raise _located(self._path, error) from None
        except (EOFError, OSError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            raise CohortError(f"{self._path}: cannot be read: {reason}") from None


def open_lines(path: Path, *, compressed: bool = True) -> TextLines:
    """Open a text file, or a gzip file whose name ends in .gz.

    Args:
        path: The file: UTF-8, with or without a byte order mark.
        compressed: Whether gzip files are read; without it they are refused.

    Raises:
        CohortError: If it cannot be read, or its first bytes are those of another format.
    """
    try:
        file = path.open("rb")
        magic = file.read(3)
        file.seek(0)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise CohortError(f"{path}: cannot be read: {reason}") from None
    # The name and the first bytes must agree.
    is_named_gz, is_gzip = path.suffix.lower() == ".gz", magic[:2] == _GZIP
    if compressed and is_named_gz and is_gzip:
        file.close()
        return TextLines(path, gzip.open(path, "rb"))
    problem = _format_problem(magic, compressed=compressed)
    if problem is None and is_named_gz:
        problem = "the file is named .gz but gzip did not make it; download it again"
    if problem:
        file.close()
        raise CohortError(f"{path}: {problem}")
    return TextLines(path, file)


def read_whole(path: Path, *, compressed: bool = True) -> str:
    """Return the whole text of a file; see `open_lines`."""
    with open_lines(path, compressed=compressed) as lines:
        return "".join(lines)


def _format_problem(magic: bytes, *, compressed: bool) -> str | None:
    """Return why the first bytes are not those of a UTF-8 text, None if they may be."""
    if magic[:2] == _GZIP:
        rename = ", or name it .gz" if compressed else ""
        return f"the file is compressed by gzip; decompress it first (gunzip){rename}"
    if magic[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "the file is UTF-16; save it as UTF-8"
    if magic == b"PK\x03":
        return "the file is a ZIP or a spreadsheet; save the table as .csv"
    return None


class _CheckedBytes(io.RawIOBase):
    """The bytes of a file; reading stops with an error at a byte that no text file has."""

    def __init__(self, file: Any) -> None:
        self._file, self._n_read, self._line_length = file, 0, 0
        self.ends_with_newline = True

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer and check its bytes."""
        count = self._file.readinto(buffer)
        content = bytes(buffer[:count])
        self._n_read += count
        newline = content.rfind(b"\n")
        # A line may go on over several buffers.
        self._line_length = count - newline - 1 if newline >= 0 else self._line_length + count
        if b"\0" in content:
            raise _Unreadable("a null byte; this is not a text file")
        if self._n_read > _MAX_BYTES or self._line_length > _MAX_LINE:
            raise _Unreadable("larger than any published table")
        # At the end of the file the buffer is empty; the last bytes before it count.
        if count:
            self.ends_with_newline = content.endswith((b"\n", b"\r"))
        return count

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


class _Unreadable(Exception):
    """A fault in the bytes of a file; its line is looked up afterwards."""


def _located(path: Path, error: Exception) -> CohortError:
    """Return the error with the first line at fault; the file is read again to find it."""
    is_decoding, reason = isinstance(error, UnicodeDecodeError), str(error)
    if isinstance(error, UnicodeDecodeError):
        reason = _not_utf8(error.object[error.start])
    opened = gzip.open if path.suffix.lower() == ".gz" else Path.open
    # Read bytes, line by line: the decoder counts from the start of its buffer, not of the file.
    with opened(path, "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_CHUNK), b""), 1):
            if not is_decoding and b"\0" in line:
                return CohortError(f"{path}:{number}: {reason}")
            byte = _first_bad_byte(line) if is_decoding else None
            if byte is not None:
                return CohortError(f"{path}:{number}: {_not_utf8(byte)}")
    return CohortError(f"{path}: {reason}")


def _first_bad_byte(line: bytes) -> int | None:
    """Return the first byte of a line that is not UTF-8, unless the chunk only cut it short."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        if len(line) - error.start > 3 or line.endswith(b"\n"):
            return line[error.start]
    return None


def _not_utf8(byte: int) -> str:
    return f"byte 0x{byte:02x} is not UTF-8; save as UTF-8"
