"""The files of a training: weights, with a card and a sheet beside them, and checkpoints."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from causalcxr.common.errors import ModelError
from causalcxr.common.files import cannot_write
from causalcxr.common.locks import exclusive

__all__ = ["training_place"]


@contextmanager
def training_place(out: Path, checkpoint: str, *, overwrite: bool = False) -> Iterator[None]:
    """Lock the place of some weights against other processes, and remove temporary files.

    Args:
        out: The weights.
        checkpoint: The name of the checkpoint in `<out>.training`. Weights without one come from
            another run.
        overwrite: Replace such weights, and train again from the start.

    Raises:
        ModelError: If another process is training these weights, weights of another run are there,
            or the disk cannot be written.
    """
    work = out.with_suffix(".training")
    busy = f"{out}: another process is training these weights at this moment; wait for its end"
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with exclusive(out.absolute().with_name(f".{out.name}.lock"), ModelError(busy)):
            # Weights without a checkpoint are finished or of another run: never replaced silently.
            if overwrite:
                shutil.rmtree(work, ignore_errors=True)
            elif out.exists() and not (work / checkpoint).exists():
                raise ModelError(
                    f"{out}: holds weights already, whose training is not in {work.name}; write "
                    "elsewhere, or give --overwrite to train again from the start"
                )
            # The lock is held, so no temporary file belongs to a living process.
            for stem in (escape(out.stem), f"{escape(out.stem)}-curve"):
                for litter in out.absolute().parent.glob(f".{stem}.*.tmp"):
                    litter.unlink(missing_ok=True)
            yield
    except OSError as fault:
        raise cannot_write(out, fault, ModelError, inside=work.absolute()) from None
