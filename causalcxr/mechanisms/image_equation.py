"""The radiograph's equation: to noise under the factual parents, to the twin under others.

Both directions share solver, steps and guidance. Under the same parents every image returns bit
for bit: the solver is reversible, or its error is added back.

Where an image is smoother than any noise (a black border, a saturated heart) it has no density,
and the equation is stiff. So known noise, the grain, is added first, which moves the image a
little along the path towards noise; `F` removes it again. With D the decoder and e the grain:

    s = t x + (1 - t) e,   u = solve(s, t -> 0; parents),   r = x - D(F(s))
    x' = D(F(s')) + r,     s' = solve(u, 0 -> t; parents')

The grain and the remainder r are part of the noise, so that under the same parents x' is x.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from causalcxr.common.errors import MechanismError, nearest
from causalcxr.common.progress import Progress
from causalcxr.common.random_numbers import Draws
from causalcxr.mechanisms.base import Columns, Equation
from causalcxr.mechanisms.native_image import NativeImageEquation
from causalcxr.radit.codec import Codec, Pixels
from causalcxr.radit.guidance import guided_velocity
from causalcxr.radit.solvers import carry, on_lattice, solver, times
from causalcxr.radit.transformer import RadiT

__all__ = ["COUPLINGS", "Chunk", "ImageEquation", "Solving"]

# Coupling of an image and its twin -> the defaults of the solver under that coupling.
COUPLINGS: Mapping[str, Mapping[str, float]] = {
    "inversion": {"steps": 16, "guidance": 1.0, "threshold": 0.0},
    "transport": {"steps": 12, "guidance": 1.2, "threshold": 0.15},
}
LARGEST_STATE = 1024.0  # beyond this a state is no longer exact, nor an image
_LARGEST_GAP = 0.5  # between two estimates of one state, whose standard deviation is about 1
_FADE = 0.5  # the change of latents at which the remainder falls to 1 / e


@dataclass
class Chunk:
    """The batch of images that the network computes; it shrinks for good if memory runs out.

    Args:
        size: Images per batch; a graphics card needs more.
        half: Whether the network computes in bf16; states stay float64, and exact.
    """

    size: int = 16
    half: bool = False


@dataclass(frozen=True)
class Solving:
    """The settings of the solver between image and noise.

    Args:
        steps: Steps in each direction, 1 to 256; by default 16. Under transport, steps per edit,
            by default 12.
        solver: One of `causalcxr.radit.solvers.SOLVERS`.
        guidance: Weight of the guided variables, by default 1, which is no guidance. Under
            transport, the weight of the difference between the two velocities, by default 1.2.
        guided: The variables that are guided.
        threshold: The effect of the guided variables on the velocity is dropped at places where
            it is weaker than this, see `causalcxr.radit.guidance`; by default 0, which drops
            nothing. Under transport, the change of the image is dropped where it is weaker than
            this share of its typical strength, by default 0.15.
        grain: Standard deviation of the grain, in units of the latents (pixels: half their range).
        remainder: `carry` keeps what the codec lost of the factual image; `fade` keeps less of it
            where the latents change.
        chunk: The batch of images.
        coupling: The coupling of an image and its twin: `inversion` or `transport`.
        edits: The number of edits that are averaged under transport.
        calibrated: The settings, of `guidance` and `threshold`, that each record takes from the
            calibration of the network; under transport only.

    Raises:
        MechanismError: If the solver or coupling is unknown, or a number is out of range.
    """

    steps: int | None = None
    solver: str = "reversible"
    guidance: float | None = None
    guided: frozenset[str] = frozenset()
    threshold: float | None = None
    grain: float = 0.0625
    remainder: str = "carry"
    chunk: Chunk = field(default_factory=Chunk)
    coupling: str = "inversion"
    edits: int = 1
    calibrated: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.coupling not in COUPLINGS:
            raise MechanismError(
                f"coupling is {self.coupling!r}; expected {' or '.join(COUPLINGS)}"
                f"{nearest(self.coupling, COUPLINGS)}"
            )
        if not 1 <= self.edits <= 256:
            raise MechanismError(f"edits is {self.edits}; expected 1 to 256")
        if self.calibrated and self.coupling != "transport":
            raise MechanismError(
                f"guidance: calibrated needs coupling: transport, not {self.coupling}; change the "
                "coupling, or give a number"
            )
        # Options left out take the defaults of the coupling.
        for name, default in COUPLINGS[self.coupling].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        # Both raise an error if their argument is not allowed.
        times(self.steps)
        solver(self.solver)
        if not 0 <= self.threshold < math.inf:
            raise MechanismError(f"threshold is {self.threshold}; expected 0 or more")
        if not 0 <= self.grain <= 1:
            raise MechanismError(f"grain is {self.grain}; expected 0 to 1")

    @property
    def uses_guidance(self) -> bool:
        """Whether an image depends on which variables are guided."""
        return self.coupling == "inversion" and (self.guidance != 1 or self.threshold > 0)

    def __str__(self) -> str:
        usual = COUPLINGS[self.coupling]
        chosen = {name: getattr(self, name) for name in ("guidance", "threshold")}
        words = {name: f"{value:g}" for name, value in chosen.items() if value != usual[name]}
        words |= dict.fromkeys(sorted(self.calibrated), "calibrated")
        rest = "".join(f", {name} {word}" for name, word in words.items())
        if self.coupling == "transport":
            edits = "an edit" if self.edits == 1 else f"the mean of {self.edits} edits"
            return f"transport, {edits} of {self.steps} steps{rest}"
        return f"inversion, {solver(self.solver).name}, {self.steps} steps each way{rest}"

    @property
    def start(self) -> float:
        """The time of an image with its grain on the path, a multiple of 1/1024."""
        return round(1024 / (1 + self.grain)) / 1024

    @property
    def cleaning(self) -> list[float]:
        """The times from a state without grain (1) down to the one with it."""
        half = round(512 * (1 + self.start)) / 1024
        return [1.0, half, self.start]


class ImageEquation(Equation):
    """An image as the solution of an ordinary differential equation that starts at noise.

    The noise of an image is one row of float64: the solver's pair of states at the noise end, the
    remainder that the codec lost of the image, and, if that fades, the image's latents; see
    `standard` for the part that is standard normal. The network computes on the device of its
    weights; images and noise are on the CPU.

    The network always computes batches of one size, the last one filled up: matrix products of
    another shape are rounded differently, and a patient's image would depend on its batch.

    Args:
        net: The velocity.
        parents: The tabular parents, each (n,).
        solving: Solver, steps, guidance and threshold.
        codec: Between images and latents, on the network's device; None for pixels.
    """

    def __init__(
        self,
        net: RadiT,
        parents: Columns,
        solving: Solving | None = None,
        codec: Codec | None = None,
    ) -> None:
        self.net, self.parents = net, parents
        self.solving, self.codec = solving or Solving(), codec or Pixels()
        self.latent = (net.config.channels, *net.config.size)
        self.image = (1, *(side * self.codec.factor for side in net.config.size))

    def reaching(self, names: Iterable[str]) -> Self:
        """Return the same equation with these variables guided."""
        solving = replace(self.solving, guided=frozenset(names))
        return type(self)(self.net, self.parents, solving, self.codec)

    def sized(self, height: int, width: int) -> "Self | NativeImageEquation":
        """Return the equation of images of this size; see `NativeImageEquation`."""
        native = (height, width)
        return self if native == tuple(self.image[1:]) else NativeImageEquation(self, native)

    def abduct(self, x: Tensor, draws: Draws) -> Tensor:
        """Return noise of images (n, 1, H, W) in [0, 1]; random, as the grain is.

        Args:
            x: Images.
            draws: The random numbers of the records, for the grain.

        Raises:
            MechanismError: If the solver did not converge.
        """
        x, t, how = on_lattice(2 * x.double() - 1), self.solving.start, solver(self.solving.solver)
        # Add the grain to the latents; the remainder is what cleaning and decoding do not return.
        grain = torch.from_numpy(draws.normal(torch.Size(self.latent).numel()))
        s = on_lattice(t * self._encoded(x) + (1 - t) * grain.view(-1, *self.latent))
        remainder = x - self._decoded(self._cleaned(s))
        # Solve to noise; for a solver that is not reversible, keep the error of the way back.
        state = self._solve(how.start(s), back=False)
        if not how.reversible:
            state[:, 1] = s - self._solve(state, back=True)[:, 0]
        return self._packed(state, remainder, s)

    def predict(self, u: Tensor) -> Tensor:
        """Return images (n, 1, H, W), float64, about [0, 1]; clip them for display.

        Raises:
            MechanismError: If the solver did not converge.
        """
        state, remainder, factual = self._parts(u)
        solved = self._solve(state, back=True)
        reversible = solver(self.solving.solver).reversible
        s = solved[:, 0] if reversible else solved[:, 0] + solved[:, 1]
        if factual is not None:
            remainder = self._faded(remainder, s - factual)
        return (self._decoded(self._cleaned(s)) + remainder + 1) / 2

    def sample_noise(self, draws: Draws) -> Tensor:
        """Return noise from the prior: standard normal, without a remainder."""
        z = on_lattice(torch.from_numpy(draws.normal(torch.Size(self.latent).numel())))
        z = z.view(-1, *self.latent)
        remainder = z.new_zeros(len(z), *self.image)
        return self._packed(solver(self.solving.solver).start(z), remainder, z)

    def standard(self, u: Tensor) -> Tensor:
        """Return the part of the noise that is standard normal, (n, channels, h, w)."""
        return self._parts(u)[0][:, 0]

    def _packed(self, state: Tensor, remainder: Tensor, z: Tensor) -> Tensor:
        parts = [state, remainder] + ([z] if self.solving.remainder == "fade" else [])
        return torch.cat([part.flatten(1) for part in parts], 1)

    def _parts(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the pair (n, 2, c, h, w), the remainder (n, 1, H, W), the factual latents."""
        latent, image = torch.Size(self.latent).numel(), torch.Size(self.image).numel()
        state, remainder, z = u.tensor_split([2 * latent, 2 * latent + image], 1)
        factual = z.view(-1, *self.latent) if z.shape[1] else None
        return state.view(-1, 2, *self.latent), remainder.view(-1, *self.image), factual

    def _faded(self, remainder: Tensor, change: Tensor) -> Tensor:
        """Return the remainder (n, 1, H, W), reduced where the latents change."""
        kept = (-change.square().mean(1, keepdim=True) / _FADE**2).exp()
        return remainder * interpolate(kept, scale_factor=self.codec.factor)

    def _cleaned(self, s: Tensor) -> Tensor:
        """Return states (n, c, h, w) without their grain, on the lattice."""
        if self.solving.start == 1:
            return s
        state = torch.stack([s, torch.zeros_like(s)], 1)
        return self._carried("midpoint", state, self.solving.cleaning, back=True)[:, 0]

    def _encoded(self, x: Tensor) -> Tensor:
        """Return the latents of images, on the lattice."""
        if isinstance(self.codec, Pixels):
            return x
        encoded = self._chunked(
            "Encoding", lambda part: self.codec.encode(part.float()), x, self.latent
        )
        return on_lattice(encoded)

    def _decoded(self, z: Tensor) -> Tensor:
        """Return the images of latents, on the lattice."""
        if isinstance(self.codec, Pixels):  # exact
            return z
        decoded = self._chunked(
            "Decoding", lambda part: self.codec.decode(part.float()), z, self.image
        )
        return on_lattice(decoded)

    def _solve(self, state: Tensor, *, back: bool) -> Tensor:
        """Solve from image to noise, or back, for states (n, 2, c, h, w)."""
        settings = self.solving
        grid = times(settings.steps, settings.start)
        return self._carried(settings.solver, state, grid, back=back)

    def _carried(self, name: str, state: Tensor, grid: list[float], *, back: bool) -> Tensor:
        """Carry states (n, 2, c, h, w) along times.

        Raises:
            MechanismError: If the solver did not converge.
        """
        settings = self.solving
        guidance = (settings.guidance, settings.guided, settings.threshold)

        def solved(part: Tensor, columns: Columns) -> Tensor:
            f = guided_velocity(self.net, columns, len(part), *guidance)
            return carry(name, f, part, grid, back=back)

        label = "Noise to images" if back else "Images to noise"
        out = self._chunked(label, solved, state, state.shape[1:], self.parents)
        # Written so that NaN counts as diverged.
        has_diverged = ~(out.abs() < LARGEST_STATE).flatten(1).all(1)
        # The two halves estimate one state: a gap shows that the steps are too large.
        if solver(name).twin:
            gap = (out[:, 0] - out[:, 1]).square().flatten(1).mean(1).sqrt()
            has_diverged |= gap > _LARGEST_GAP
        if has_diverged.any():
            raise MechanismError(
                f"image: the solver did not converge for {int(has_diverged.sum())} of {len(out)} "
                "images; train for longer, raise solver_steps, or lower guidance"
            )
        return out

    @torch.no_grad()
    def _chunked(
        self,
        label: str,
        work: Callable[..., Tensor],
        x: Tensor,
        shape: Iterable[int],
        columns: Columns | None = None,
    ) -> Tensor:
        """Apply work to full batches of rows on the network's device; results are on the CPU."""
        device, start = next(self.net.parameters()).device, 0
        out = torch.empty(len(x), *shape, dtype=torch.float64)
        with Progress(label, len(x), "images") as count:
            while start < len(x):
                size = self.solving.chunk.size
                rows = torch.arange(start, min(start + size, len(x)))
                # Full batches only, padded with copies of a row: equal shapes give equal rounding.
                filled = torch.cat([rows, rows[:1].expand(size - len(rows))])
                inputs: list[Any] = [x[filled].to(device)]
                if columns is not None:
                    inputs.append({n: c[filled].float().to(device) for n, c in columns.items()})
                half = torch.autocast(device.type, torch.bfloat16, enabled=self.solving.chunk.half)
                try:
                    with half:
                        out[rows] = work(*inputs)[: len(rows)].double().cpu()
                # Retry the same rows with half as many.
                except torch.OutOfMemoryError:
                    if size == 1:
                        raise
                    self.solving.chunk.size = size // 2
                    continue
                start += len(rows)
                count.add(len(rows))
        return out
