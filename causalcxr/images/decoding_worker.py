"""The process that decodes untrusted files; it is run by `python -m`.

It reads one request per line (JSON) from standard input, and answers with one line (JSON) and the
bytes of the pixels on standard output. A damaged file cannot affect the parent process: the worker
may end, and another replaces it. It cannot write files.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

from causalcxr.images.decoded import ImageError, Limits
from causalcxr.images.decoding import decode, fitted

__all__ = ["answer", "main"]


def answer(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Return the answer to a request: facts and pixels (uint16, little endian), or a reason.

    Example:
        >>> answer({"path": "nowhere.png", "limits": {}, "size": None})[0]["reason"]
        'missing'
    """
    path = request["path"]
    try:
        decoded = decode(path, Limits(**_with_root(request["limits"])))
        pixels = decoded.pixels
        if request["size"] is not None:
            pixels = fitted(pixels, tuple(request["size"]))
        facts = {"shape": pixels.shape, "bits": decoded.bits, "about": decoded.about}
        return facts, pixels.astype("<u2", copy=False).tobytes()
    except ImageError as error:
        return {"reason": error.reason, "detail": error.detail}, b""
    except MemoryError:  # while resizing or sending
        return {"reason": "memory", "detail": "needs more memory than the limits allow"}, b""
    except Exception as error:  # an error of ours; it must not affect other files
        kind = type(error).__name__
        return {"reason": "damaged", "detail": f"cannot be decoded ({kind})"}, b""


def main() -> None:
    """Answer requests until the standard input ends."""
    # C libraries may print to standard output; this must not mix with the answers. So answers go
    # to a copy of it, and what is printed goes to standard error.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    memory = int(sys.argv[1])
    # The imports of decoders precede the limit on memory.
    import causalcxr.images.dicom_read  # noqa: F401

    _limit(memory)
    _send(answers, {"ready": True})
    for line in sys.stdin.buffer:
        facts, pixels = answer(json.loads(line))
        _send(answers, facts, pixels)


def _send(answers: BinaryIO, facts: dict[str, Any], pixels: bytes = b"") -> None:
    answers.write(json.dumps(facts | {"bytes": len(pixels)}).encode() + b"\n" + pixels)
    answers.flush()


def _with_root(limits: dict[str, Any]) -> dict[str, Any]:
    root = limits.get("root")
    return limits | {"root": None if root is None else Path(root)}


def _limit(memory: int) -> None:
    """Limit the memory that this process may add, and forbid it to write files."""
    try:
        import resource
    except ImportError:  # Windows
        return
    status = Path("/proc/self/statm")
    # The memory in use, as the limit counts it too.
    taken = int(status.read_text().split()[0]) * resource.getpagesize() if status.exists() else 0
    # Without /proc the memory in use is unknown; 4 GiB of addresses are more than enough.
    most = memory + (taken or 4 * 2**30)
    for kind, value in (
        (resource.RLIMIT_AS, most), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0),
    ):  # fmt: skip
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (value, value))
        except (OSError, ValueError):  # macOS refuses a limit on addresses
            continue


if __name__ == "__main__":
    main()
