"""The radiograph's equation: RadiT, back to noise under the factual parents, forth under others.

Abduction solves the flow from image to noise, prediction from noise to image, with one reversible
solver: under the same parents every image comes back bit for bit.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from causalcxr.errors import MechanismError
from causalcxr.mechanisms.base import Columns, Equation, History, Mechanism
from causalcxr.noise import Draws
from causalcxr.radit.flow import velocity_loss
from causalcxr.radit.solvers import on_lattice, reversible_heun, times
from causalcxr.radit.train import TrainConfig, train
from causalcxr.radit.transformer import SIZES, RadiT, RadiTConfig
from causalcxr.radit.weights import adopt_weights, resolve
from causalcxr.tensors import sha256
from causalcxr.variables import Variable

__all__ = ["ImageEquation", "ImageMechanism"]

_BATCH = 16
_WILD = 1024.0  # beyond this a state is no longer exact, and no image either


class ImageEquation(Equation):
    """An image as the end of an ordinary differential equation that starts at noise.

    The noise is the pair of the reversible solver, (n, 2, 1, H, W) float64; see
    `causalcxr.radit.solvers`. Both legs use the same solver and steps. The network computes where
    its weights are; images and noise are on the CPU.

    The network always sees batches of one size, the last one filled up: matrix products of another
    shape round otherwise, and a patient's image would depend on the company it was computed in.

    Args:
        net: The velocity.
        parents: The tabular parents, each (n,).
        steps: Solver steps a leg, one evaluation of the network each.
        batch: Images at a time; more keep a graphics card busy.

    Raises:
        MechanismError: If the number of steps is out of range.
    """

    def __init__(self, net: RadiT, parents: Columns, steps: int, *, batch: int = _BATCH) -> None:
        self.net, self.parents, self.grid, self.batch = net, parents, times(steps), batch

    def abduct(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """Return the noise of images (n, 1, H, W) in [0, 1]; nothing is left to chance."""
        state = on_lattice(2 * x.double() - 1)
        return self._solve(state[:, None].expand(-1, 2, -1, -1, -1), back=False)

    def predict(self, u: Tensor) -> Tensor:
        """Return images (n, 1, H, W), float64, about [0, 1]; who shows them clips them."""
        return (self._solve(u, back=True)[:, 0] + 1) / 2

    def sample_noise(self, draws: Draws) -> Tensor:
        """Return standard normal noise, the same for both halves of the pair."""
        side = self.net.config.resolution
        z = torch.from_numpy(draws.normal(side * side)).view(-1, 1, 1, side, side)
        return on_lattice(z).expand(-1, 2, -1, -1, -1)

    @torch.no_grad()
    def _solve(self, state: Tensor, *, back: bool) -> Tensor:
        """Carry pairs (n, 2, 1, H, W) from image to noise, or back, batch by batch."""
        out = torch.empty(state.shape, dtype=torch.float64)
        for start in range(0, len(state), self.batch):
            rows = torch.arange(start, min(start + self.batch, len(state)))
            filled = torch.cat([rows, rows[:1].expand(self.batch - len(rows))])
            solved = self._carry(state[filled], filled, back=back)
            out[rows] = solved[: len(rows)].cpu()
        wild = ~(out.abs() < _WILD).flatten(1).all(1)
        if wild.any():
            raise MechanismError(
                f"image: the solver did not converge for {int(wild.sum())} of {len(out)} images; "
                "train longer or raise solver_steps"
            )
        return out

    def _carry(self, state: Tensor, rows: Tensor, *, back: bool) -> Tensor:
        """Carry one full batch, where the network is."""
        device = next(self.net.parameters()).device
        columns = {name: c[rows].float().to(device) for name, c in self.parents.items()}
        condition = self.net.embed_condition(columns, len(rows))

        def velocity(x: Tensor, t: float) -> Tensor:
            return self.net(x.float(), torch.full((len(rows),), t, device=device), condition)

        return reversible_heun(velocity, state.to(device), self.grid, back=back)


class ImageMechanism(Mechanism):
    """Generate the image by a rectified flow transformer: `mechanism: {kind: radit, ...}`.

    Args:
        variable: The image variable.
        parents: Its tabular parents.
        options: `size` (tiny, small), `resolution` in pixels, `weights` (a bundled name or a file
            to start from), `steps` of training on the cohort (0 keeps the weights as they are,
            which is what is done where weights are given), `solver_steps`, `batch`, `lr`.

    Raises:
        MechanismError: If an option is unknown or its value is not allowed.
        ModelError: If the resolution does not fit the patches.
    """

    training_defaults: ClassVar[Mapping[str, Any]] = {}
    defaults: ClassVar[Mapping[str, Any]] = {
        "size": tuple(SIZES),
        "resolution": 64,
        "weights": "",
        "steps": 6000,
        "solver_steps": 16,
        "batch": 32,
        "lr": 2e-3,
    }

    def __init__(self, variable: Variable, parents: Sequence[Variable], **options: Any) -> None:
        if options.get("weights"):
            options = {"steps": 0, **options}
        super().__init__(variable, parents, **options)
        self.config = RadiTConfig.of(self.options["size"], self.options["resolution"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = RadiT(self.config, self.parents)

    def forward(self, parents: Columns) -> ImageEquation:
        """Bind the parents, each (n,), NaN where missing."""
        names = self.net.conditioner.names
        return ImageEquation(
            self.net, {n: parents[n] for n in names}, self.options["solver_steps"]
        )

    def loss(self, x: Tensor, parents: Columns) -> Tensor:
        """Return the velocity loss of images (n, 1, H, W) in [0, 1], at fixed random times."""
        generator = torch.Generator().manual_seed(0)
        columns = {n: parents[n].float() for n in self.net.conditioner.names}
        return velocity_loss(self.net, 2 * x.float() - 1, columns, generator)

    @property
    def weights(self) -> Path | None:
        """The file the network starts from, if any."""
        name = self.options["weights"]
        return resolve(name, self.config.resolution) if name else None

    def provenance(self) -> str:
        """Return the hash of the weights to start from: they are part of what is learned."""
        return sha256(self.weights) if self.weights else ""

    def fit(
        self,
        x: Any,
        parents: Columns,
        *,
        validation: tuple[Any, Columns] | None = None,
        seed: int,
        progress: Callable[[int, int, float], None] | None = None,
        folder: Path | None = None,
    ) -> History:
        """Take over weights, if any, then train on the images.

        Args:
            x: Anything that gives images (k, 1, H, W) in [0, 1] for row numbers, such as
                `Cohort.images`.
            parents: The tabular parents, each (n,).
            validation: Not used: the number of steps is an option.
            seed: Of the initial weights, the order, the times and the noise.
            progress: Called with (step, steps, loss).
            folder: Where checkpoints go; a run found there is taken up again.
        """
        start = self.weights
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = (
                adopt_weights(start, self.config, self.parents)
                if start
                else RadiT(self.config, self.parents)
            )
        steps = self.options["steps"]
        if not steps:
            self.net.eval().requires_grad_(False)
            return History()
        columns = {n: parents[n] for n in self.net.conditioner.names}

        def images(rows: Tensor) -> Tensor:
            return torch.as_tensor(np.asarray(x[rows.numpy()])).float() * 2 - 1

        config = TrainConfig(steps=steps, batch=self.options["batch"], lr=self.options["lr"])
        losses = train(
            self.net, images, columns, config, seed=seed, folder=folder, progress=progress
        )
        return History(train=losses, rows=len(next(iter(columns.values()))))
