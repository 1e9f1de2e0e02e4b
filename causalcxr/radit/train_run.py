"""The state of a training run, its step, and its checkpoint."""

import copy
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from causalcxr.common.errors import MechanismError
from causalcxr.radit.batches import EPOCHS
from causalcxr.radit.checkpoint import (
    NotFinite,
    Part,
    read_checkpoint,
    run_identity,
    write_checkpoint,
)
from causalcxr.radit.flow import velocity_loss
from causalcxr.radit.optimisers import optimisers, set_rate
from causalcxr.radit.pairing import PAIRINGS
from causalcxr.radit.parallel import (
    Processes,
    gathered,
    local_part,
    parallel_model,
    synchronised_last,
)
from causalcxr.radit.precision import Precision, choose_precision
from causalcxr.radit.schedule import average_decay
from causalcxr.radit.train_config import TrainConfig
from causalcxr.radit.transformer import RadiT

__all__ = ["TrainRun"]


class TrainRun:
    """A network in training, the moving average of its weights, the optimisers and the step.

    The network passed in holds the average; a copy of it is trained.

    Args:
        net: The network as training starts with it, on its device.
        columns: The parents of every image, each (n,).
        config: How to train.
        seed: Seed of all random numbers.
        processes: The processes that train together.
        precision: The precision of the computation; chosen here if None.
        parts: The records of several sources and their numbers in a batch, see `MixedOrder`.
    """

    def __init__(
        self,
        net: RadiT,
        columns: dict[str, Tensor],
        config: TrainConfig,
        seed: int,
        processes: Processes,
        precision: Precision | None = None,
        parts: Sequence[tuple[int, int]] = (),
    ) -> None:
        if precision is None:
            precision = choose_precision(net, columns, config, processes)
        # The choice is part of the settings, and so of the identity.
        config = replace(config, precision=precision.products)
        self.config, self.seed, self.processes, self.step = config, seed, processes, 0
        self.precision = precision
        settings = (net.config, config.identity, seed, *map(tuple, parts))
        self.identity = run_identity(settings, net.state_dict(), columns)
        self.micro = config.micro
        self.device = next(net.parameters()).device
        # Train a copy; the network passed in receives the average.
        self.result = net.eval().requires_grad_(False)
        self.net = copy.deepcopy(net).train().requires_grad_(True)
        self.net.recompute = config.recompute
        if config.precision == "pure-bf16":
            self.net.bfloat16()
        if config.compile:
            for block in self.net.blocks:
                block.compile()
        self.model = parallel_model(self.net, config, processes, self.device)
        self.spread = self.model is self.net and processes.ranks > 1
        # The average shares the memory of the result, unless processes hold parts of it.
        self.average = dict(net.state_dict())
        if self.spread:
            self.average = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.optimisers = optimisers(
            self.net, config, fused=self.device.type == "cuda", half=precision.muon == "bf16"
        )

    def advance(
        self,
        images: Tensor,
        columns: dict[str, Tensor],
        others: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Take one optimiser step on this process's rows of a batch, and return their loss.

        Args:
            images: (B, C, H, W).
            columns: The parents, each (B,).
            others: Parents of other patients, for the penalty on effects.
        """
        set_rate(self.optimisers, self.step, self.config)
        # Forward and backward, again with fewer images at a time if memory runs out.
        while (loss := self._descend(images, columns, others)) is None:
            self._halve(len(images))
        # The gradients are complete: clip them, then move weights and average.
        nn.utils.clip_grad_norm_(self.net.parameters(), self.config.clip)
        for optimiser in self.optimisers:
            optimiser.step()
        self._follow()
        self.step += 1
        return loss

    def _descend(
        self, images: Tensor, columns: dict[str, Tensor], others: dict[str, Tensor] | None
    ) -> Tensor | None:
        """Accumulate the gradients of a batch, some images at a time; None if memory runs out."""
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        n = len(images)
        at_once = min(self.micro or n, n)
        total = torch.zeros((), device=self.device)
        try:
            for start in range(0, n, at_once):
                part = slice(start, min(start + at_once, n))
                # Reducing gradients over processes once per batch is enough.
                with synchronised_last(self.model, last=part.stop == n):
                    loss = self._loss(images, columns, others, part)
                    loss.backward()
                total += loss.detach()
        except torch.OutOfMemoryError:
            return None
        return total

    def _loss(
        self,
        images: Tensor,
        columns: dict[str, Tensor],
        others: dict[str, Tensor] | None,
        part: slice,
    ) -> Tensor:
        """Return the contribution of some images to the batch's loss."""
        config, n = self.config, len(images)
        # The position of this process's rows in the batch of all processes.
        first = self.processes.rank * n
        where = self.device if config.noise == "device" else "cpu"
        half = config.precision != "fp32"
        # The seed depends on the step only: each part draws the whole batch's numbers, takes its
        # own.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            loss = velocity_loss(
                self.model,
                images[part],
                {k: v[part] for k, v in columns.items()},
                torch.Generator(where).manual_seed(self.seed * EPOCHS + self.step),
                config.hide,
                shift=config.shift,
                pairing=PAIRINGS[config.pairing],
                rows=slice(first + part.start, first + part.stop),
                total=n * self.processes.ranks,
                sparse=config.sparse,
                others=others and {k: v[part] for k, v in others.items()},
                windows=self.net.windows,
            )
        # The weight of a part is its share, so that the parts sum to the batch's mean.
        return loss * ((part.stop - part.start) / n)

    def _halve(self, n: int) -> None:
        """Halve the number of images at a time from now on, after memory ran out."""
        at_once = min(self.micro or n, n)
        # Several processes would have to halve together, and one image cannot be halved.
        if self.processes.ranks > 1 or at_once == 1:
            size = "one image" if at_once == 1 else f"{at_once} images per process"
            raise MechanismError(
                f"RadiT: out of memory with {size} at a time at step {self.step}; lower micro, "
                "set recompute or parallel: fsdp, or use a smaller network"
            )
        self.micro = -(-at_once // 2)
        # Free the partial gradients and the cache before the next try.
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        print(
            f"out of memory at step {self.step}: from now on {self.micro} images at a time, "
            f"accumulated to the same batch of {n}",
            file=sys.stderr,
            flush=True,
        )

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the weights."""
        decay = average_decay(self.step, self.config.average)
        for key, value in self.net.state_dict().items():
            # Computed in the average's own precision: bf16 would lose its small steps.
            average = local_part(self.average[key])
            if not value.is_floating_point():  # the meaning of columns, which does not change
                continue
            average.lerp_(local_part(value).to(average.dtype), 1 - decay)

    @torch.no_grad()
    def settle(self) -> RadiT:
        """Return the network with the average, gathered first if processes hold parts of it."""
        if self.spread:
            for key, value in self.result.state_dict().items():
                value.copy_(gathered(self.average[key]))
        return self.result

    def _parts(self) -> dict[str, Part]:
        parts = {"net": self.net, "average": self.average}
        return parts | {f"optimiser{k}": each for k, each in enumerate(self.optimisers)}

    def write(self, path: Path) -> None:
        """Write a checkpoint; if weights are not finite, raise an error and keep the last."""
        about = {"step": str(self.step), "run": self.identity, "micro": str(self.micro)}
        about |= self.precision.header
        # Distributed weights are gathered by all processes, so all must call.
        try:
            if self.processes.leads or self.spread:
                write_checkpoint(path, self._parts(), about, writes=self.processes.leads)
        except NotFinite as error:
            raise MechanismError(
                f"RadiT: weights are not finite at step {self.step}; lower lr or check the images"
            ) from error

    def read(self, path: Path) -> None:
        """Resume from a checkpoint.

        Raises:
            ModelError: If it is damaged, or of a run with other settings, seed, weights or rows.
        """
        about = read_checkpoint(path, self._parts(), run=self.identity)
        self.step = int(about["step"])
        # The rounding of a sum depends on its parts: a run that halved them keeps the size.
        sizes = [size for size in (self.config.micro, int(about["micro"])) if size]
        self.micro = min(sizes, default=0)
