"""The precision of a training run: the faster of fp32 and bf16, measured once on the device.

Whether products in bf16 are faster depends on the processor: some gain a factor of two, others
lose one although they list the instruction. So `precision: auto` takes a few steps with some
images in both and uses bf16 where it saves at least a twentieth; likewise for the matrices that
Muon orthogonalises. The choice is stored in the checkpoint: a run that resumes keeps it, on
another machine too, as the weights depend on it.
"""

import json
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from causalcxr.radit.flow import velocity_loss
from causalcxr.radit.muon import orthogonal
from causalcxr.radit.parallel import Processes
from causalcxr.radit.train_config import TrainConfig
from causalcxr.radit.transformer import RadiT

__all__ = ["Precision", "choose_precision", "measured_seconds"]

_GAIN = 0.95  # bf16 is used if it takes at most this share of the time of fp32
_REPEATS = 2  # timed, after one that is not
_IMAGES = {"cpu": 4}  # images of a measured step; a graphics card needs more to be busy
_MANY = 64
_MATRICES = 2  # of each shape, at most


@dataclass(frozen=True)
class Precision:
    """The precision of a run, and why.

    Args:
        products: Of the network: `fp32`, `bf16` or `pure-bf16`.
        muon: Of Muon's orthogonalisation: `fp32` or `bf16`.
        milliseconds: What was measured, if anything.
    """

    products: str
    muon: str
    milliseconds: Mapping[str, float]

    @classmethod
    def from_header(cls, about: Mapping[str, str], muon: str = "fp32") -> "Precision":
        """Return the precision in a checkpoint's header.

        Checkpoints of earlier versions have no entry: their products were in fp32, unless the
        configuration says otherwise.

        Args:
            about: The texts of the header.
            muon: The precision of Muon without an entry.
        """
        measured = json.loads(about.get("milliseconds", "{}"))
        return cls(about.get("precision", "fp32"), about.get("muon", muon), measured)

    @property
    def row(self) -> dict[str, str | dict[str, float]]:
        """The choice as a row of the log."""
        measured = dict(self.milliseconds)
        return {"precision": self.products, "muon": self.muon, "milliseconds": measured}

    @property
    def header(self) -> dict[str, str]:
        """The choice as texts for the header of a checkpoint."""
        measured = json.dumps(self.row["milliseconds"])
        return self.row | {"milliseconds": measured}


def choose_precision(
    net: RadiT,
    columns: Mapping[str, Tensor],
    config: TrainConfig,
    processes: Processes,
    checkpoint: Path | None = None,
) -> Precision:
    """Return the precision of a run: that of its checkpoint, as set, or as measured.

    Args:
        net: The network, on its device.
        columns: The parents of the images, each (n,).
        config: The configuration of the run.
        processes: The processes that train together: the leading one measures.
        checkpoint: The checkpoint of the run, if there is one.
    """
    device = next(net.parameters()).device
    usual = "bf16" if device.type == "cuda" else "fp32"
    saved = _header(checkpoint) if checkpoint and checkpoint.exists() else None
    if config.precision != "auto" or saved is not None:
        kept = Precision.from_header(saved or {}, usual)
        return kept if config.precision == "auto" else replace(kept, products=config.precision)
    # One process measures, and all follow it.
    seconds = measured_seconds(net, columns, config) if processes.leads else {}
    chosen = []
    for name in ("step", "muon"):
        fp32, bf16 = seconds.get(name, (0.0, 0.0))
        chosen.append("bf16" if processes.agree(bf16 < _GAIN * fp32, device) else "fp32")
    products, muon = chosen
    rounded = {
        f"{name} {kind}": round(1000 * value, 1)
        for name, pair in seconds.items()
        for kind, value in zip(("fp32", "bf16"), pair, strict=True)
    }
    return Precision(products, muon, rounded)


def _header(checkpoint: Path) -> dict[str, str]:
    """Return the texts of a checkpoint's header; none if it is damaged, as reading it will say."""
    try:
        with safe_open(checkpoint, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}


def measured_seconds(
    net: RadiT, columns: Mapping[str, Tensor], config: TrainConfig
) -> dict[str, tuple[float, float]]:
    """Return the seconds of a step and of Muon's orthogonalisation, each in fp32 and in bf16.

    Args:
        net: The network, which stays as it is.
        columns: The parents of the images, each (n,).
        config: Its batch limits the images of a measured step.
    """
    device = next(net.parameters()).device
    n = min(_IMAGES.get(device.type, _MANY), config.micro or config.batch, config.batch)
    return {
        "step": _timed(_step(deepcopy(net), columns, n), device),
        "muon": _timed(_orthogonalisation(net), device),
    }


def _step(net: RadiT, columns: Mapping[str, Tensor], n: int) -> Callable[[bool], None]:
    """Return a function that computes loss and gradients of n images, in bf16 or not."""
    net.train().requires_grad_(True)
    device = next(net.parameters()).device
    rows = torch.arange(n) % len(next(iter(columns.values()), torch.zeros(1)))
    some = {name: column.cpu()[rows].float().to(device) for name, column in columns.items()}
    shape = (n, net.config.channels, *net.config.size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)

    def step(half: bool) -> None:
        numbers = torch.Generator().manual_seed(0)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = velocity_loss(net, images, some, numbers)
        loss.backward()

    return step


def _orthogonalisation(net: RadiT) -> Callable[[bool], None]:
    """Return a function that orthogonalises a few matrices of each shape, in bf16 or not."""
    by_shape: dict[torch.Size, list[Tensor]] = {}
    for matrix in net.blocks.parameters():
        if matrix.ndim == 2:
            by_shape.setdefault(matrix.shape, []).append(matrix.detach())
    stacks = [torch.stack(matrices[:_MATRICES]) for matrices in by_shape.values()]

    def orthogonalise(half: bool) -> None:
        for stack in stacks:
            orthogonal(stack.to(torch.bfloat16 if half else torch.float32))

    return orthogonalise


def _timed(work: Callable[[bool], None], device: torch.device) -> tuple[float, float]:
    """Return the shortest time of some work in fp32 and in bf16, taken in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(1 + _REPEATS):
        for half in (False, True):
            start = time.perf_counter()
            work(half)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[half].append(time.perf_counter() - start)
    # The first call of each loads kernels.
    return min(times[0][1:]), min(times[1][1:])
