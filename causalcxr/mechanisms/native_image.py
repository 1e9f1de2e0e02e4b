"""The equation of radiographs that are larger than the images of the model.

The model computes at its own size, and the change is added to the native image. With E the
average over areas and D the smooth enlargement of `causalcxr.images.resampling`:

    twin = D(f(u; parents*)) + r,    u = f^-1(E(x); parents),    r = x - D(E(x))

The remainder r is the detail that shrinking loses. It is part of the noise, and it is the same in
the twin. As D is linear, twin = x + D(f(u; parents*) - E(x)), which is how it is computed: where
nothing changes at the model's size, the native image returns bit for bit. This is true under any
coupling, and with any autoencoder at the model's size.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from causalcxr.common.random_numbers import Draws
from causalcxr.images.resampling import Resampling
from causalcxr.mechanisms.base import Equation
from causalcxr.radit.solvers import on_lattice

if TYPE_CHECKING:
    from causalcxr.mechanisms.image_equation import ImageEquation

__all__ = ["NativeImageEquation"]


class NativeImageEquation(Equation):
    """An image's equation for images of a larger size.

    The noise of an image is one row of float64: its noise at the model's size, the shrunk image,
    and the image itself; the last two determine the remainder.

    Args:
        equation: The equation at the model's size.
        native: Height and width of the images, in pixels.

    Raises:
        CohortError: If the images are smaller than the model's.
    """

    def __init__(self, equation: "ImageEquation", native: tuple[int, int]) -> None:
        self.equation, self.native = equation, native
        self.resampling = Resampling(native, tuple(equation.image[1:]))

    def reaching(self, names: Iterable[str]) -> "NativeImageEquation":
        """Return the same equation with these variables guided."""
        return NativeImageEquation(self.equation.reaching(names), self.native)

    def abduct(self, x: Tensor, draws: Draws) -> Tensor:
        """Return the noise of images (n, 1, H, W) in [0, 1].

        Args:
            x: Images.
            draws: The random numbers of the records.

        Raises:
            MechanismError: If the solver did not converge.
        """
        # On the lattice, so that under the same parents the equation returns these very numbers.
        small = on_lattice(torch.from_numpy(self.resampling.shrink(x[:, 0].numpy())))
        noise = self.equation.abduct(small[:, None], draws)
        return torch.cat([noise, small.flatten(1), x.flatten(1)], 1)

    def predict(self, u: Tensor) -> Tensor:
        """Return images (n, 1, H, W), float64, about [0, 1]; clip them for display.

        Raises:
            MechanismError: If the solver did not converge.
        """
        noise, small, x = self._parts(u)
        change = self.equation.predict(noise).flatten(1) - small
        change = change.view(-1, *self.resampling.size).numpy()
        out = x.reshape(-1, 1, *self.native).clone()
        # One image at a time, to save memory.
        for k in range(len(out)):
            out[k] += torch.from_numpy(self.resampling.enlarge(change[k : k + 1]))
        return out

    def sample_noise(self, draws: Draws) -> Tensor:
        """Return noise from the prior, without a remainder: samples have no fine detail."""
        noise = self.equation.sample_noise(draws)
        return torch.cat([noise, noise.new_zeros(len(noise), self._extra)], 1)

    def standard(self, u: Tensor) -> Tensor:
        """Return the part of the noise that is standard normal, (n, channels, h, w)."""
        return self.equation.standard(self._parts(u)[0])

    @property
    def _extra(self) -> int:
        """The numbers in a row of noise besides the noise at the model's size."""
        return torch.Size(self.resampling.size).numel() + torch.Size(self.native).numel()

    def _parts(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the noise at the model's size, the shrunk image and the native one, flat."""
        small = torch.Size(self.resampling.size).numel()
        width = u.shape[1] - self._extra
        return u.tensor_split([width, width + small], 1)
