"""A hierarchical conditional VAE whose counterfactuals keep latents and residual.

Latents z of five resolutions have a prior that does not depend on the parents (they are
exogenous); the image's mean and scale depend on both:

    z ~ q(z | x, parents),   e = (x - mean(z, parents)) / scale(z, parents)
    x' = mean(z, parents') + scale(z, parents') e

The method of arXiv:2306.15764 without its second stage (fine-tuning against predictors of the
parents), in a size for two cores.

References:
    High Fidelity Image Counterfactuals with Probabilistic Causal Models (De Sousa Ribeiro et al.),
    arXiv:2306.15764.
    Very Deep VAEs Generalize Autoregressive Models (Child), arXiv:2011.10650.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, gelu, interpolate

from causalcxr.common.random_numbers import Draws
from causalcxr.graph.variables import Variable
from causalcxr.mechanisms.base import Columns, Equation
from causalcxr.radit.conditioning import Conditioner
from causalcxr.radit.transformer import RadiTConfig

__all__ = ["HVAE", "HVAEEquation", "elbo_loss"]

_CHUNK = 64
_HALF = 1 / 255  # half a grey level, in units of [-1, 1]


class _Block(nn.Module):
    """A residual bottleneck."""

    def __init__(self, width: int, out: int | None = None, middle: int | None = None) -> None:
        super().__init__()
        middle = middle or max(8, width // 2)
        self.a = nn.Conv2d(width, middle, 1)
        self.b = nn.Conv2d(middle, middle, 3, padding=1)
        self.c = nn.Conv2d(middle, middle, 3, padding=1)
        self.d = nn.Conv2d(middle, out or width, 1)
        self.skip = nn.Identity() if out is None else nn.Conv2d(width, out, 1)
        with torch.no_grad():
            self.d.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.b(gelu(self.a(gelu(x))))
        return self.skip(x) + self.d(gelu(self.c(gelu(h))))


class _Level(nn.Module):
    """Latents of one resolution: prior, posterior, and the update of both streams.

    One stream (g) does not depend on the parents, the other (h) does.
    """

    def __init__(self, width: int, latents: int, condition: int) -> None:
        super().__init__()
        self.latents = latents
        self.prior = _Block(width, 2 * latents)
        self.posterior = _Block(3 * width, 2 * latents, width // 2)
        self.exogenous = nn.Conv2d(latents, width, 1)  # into the stream without parents
        self.image = nn.Conv2d(latents, width, 1)
        self.parents = nn.Linear(condition, width)
        self.free, self.conditioned = _Block(width), _Block(width)

    def prior_distribution(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prior's mean and log scale."""
        mean, log = self.prior(g).chunk(2, 1)
        return mean, log.clamp(-6, 3)

    def posterior_distribution(
        self, g: Tensor, h: Tensor, features: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the posterior's mean and log scale."""
        mean, log = self.posterior(torch.cat([g, h, features], 1)).chunk(2, 1)
        return mean, log.clamp(-6, 3)

    def forward(self, g: Tensor, h: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.free(g + self.exogenous(z)), self.conditioned(h + self.image(z))


class HVAE(nn.Module):
    """Encode an image, and decode latents given the same or other parents.

    Args:
        config: The size of the images, a multiple of 16; its other fields are not used.
        variables: The parents.
        widths: Channels at the image's resolution, at half of it, and so on.
        latents: Channels of the latents, at every resolution except the image's.
        condition: Width of the embedded parents.
    """

    def __init__(
        self,
        config: RadiTConfig,
        variables: Sequence[Variable],
        widths: tuple[int, ...] = (16, 32, 64, 128, 160),
        latents: int = 8,
        condition: int = 128,
    ) -> None:
        super().__init__()
        self.config, self.widths = config, widths
        self.conditioner = Conditioner(variables, condition)
        self.stem = nn.Conv2d(1, widths[0], 3, padding=1)
        self.encoders = nn.ModuleList(_Block(w) for w in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairwise(widths))
        depths = [widths[-1], *widths[:0:-1]]  # from the coarsest resolution to the finest
        self.levels = nn.ModuleList(_Level(w, latents, condition) for w in depths)
        self.up = nn.ModuleList(
            nn.ModuleList([nn.Conv2d(a, b, 1), nn.Conv2d(a, b, 1)]) for a, b in pairwise(depths)
        )
        self.places = nn.ParameterList(
            torch.zeros(w, *shape[1:]) for w, shape in zip(depths, self.shapes, strict=True)
        )
        self.rise = nn.Conv2d(widths[1], widths[0], 1)
        self.last = _Block(widths[0])
        self.out = nn.Conv2d(widths[0], 2, 3, padding=1)
        with torch.no_grad():
            self.out.weight.mul_(0.1)

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """The latents' shapes, the coarsest first."""
        rows, columns = self.config.size
        depth = range(len(self.widths) - 1, 0, -1)
        sizes = [(1, 1), *((rows >> k, columns >> k) for k in depth)]
        return [(self.levels[0].latents, *size) for size in sizes]

    def features(self, x: Tensor) -> list[Tensor]:
        """Return features of images (B, 1, H, W) at each resolution, the coarsest first."""
        h, features = self.stem(x.contiguous(memory_format=torch.channels_last)), []
        for k, encode in enumerate(self.encoders):
            h = encode(h)
            features.append(h)
            if k < len(self.down):
                h = self.down[k](avg_pool2d(h, 2))
        return [h.mean((2, 3), keepdim=True), *features[:0:-1]]

    def condition(self, columns: Columns, rows: int) -> Tensor:
        """Return the embedded parents, (B, condition)."""
        return self.conditioner(columns, rows).sum(1)

    def decode(
        self, noise: list[Tensor], c: Tensor, features: list[Tensor] | None = None, z: bool = False
    ) -> tuple[Tensor, Tensor, list[Tensor], Tensor]:
        """Go from the coarsest latents to the image.

        Args:
            noise: For each resolution, standard normal numbers; latents if `z` is true.
            c: The embedded parents.
            features: Of images; the latents are then drawn from the posterior.
            z: Whether `noise` contains latents.

        Returns:
            The image's mean and log scale, the latents, and the divergence, (B,), nats.
        """
        g = h = c.new_zeros(len(c), self.widths[-1], 1, 1)
        divergence, latents = c.new_zeros(len(c)), []
        for k, (level, place) in enumerate(zip(self.levels, self.places, strict=True)):
            if k:
                g, h = (
                    up(interpolate(x, place.shape[1:]))
                    for up, x in zip(self.up[k - 1], (g, h), strict=True)
                )
            g, h = g + place, h + place + level.parents(c)[:, :, None, None]
            mean, log = level.prior_distribution(g)
            if features is not None:
                posterior_mean, posterior_log = level.posterior_distribution(g, h, features[k])
                gap = (posterior_mean - mean) / log.exp()
                each = (
                    log
                    - posterior_log
                    + ((2 * (posterior_log - log)).exp() + gap.square() - 1) / 2
                )
                divergence = divergence + each.flatten(1).sum(1)
                mean, log = posterior_mean, posterior_log
            latent = noise[k] if z else mean + log.exp() * noise[k]
            latents.append(latent)
            g, h = level(g, h, latent)
        h = self.last(self.rise(interpolate(h, scale_factor=2)))
        mean, log = self.out(h).chunk(2, 1)
        return mean, (log - 1).clamp(-7, 1), latents, divergence


def _draw(shapes: list[tuple[int, int, int]], numbers: Tensor) -> list[Tensor]:
    """Reshape standard normal numbers (n, k) to the shapes of the latents."""
    sizes = [c * h * w for c, h, w in shapes]
    parts = numbers.split(sizes, 1)
    return [part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]


def elbo_loss(
    net: HVAE, images: Tensor, columns: Columns, generator: torch.Generator, beta: float = 1.0
) -> Tensor:
    """Return the negative evidence lower bound, nats per pixel.

    Grey levels are intervals of a Gaussian; black and white include its tails.

    Args:
        net: The autoencoder.
        images: (B, 1, H, W), -1 to 1.
        columns: The parents.
        generator: Of the posterior's draws.
        beta: Weight of the divergence.
    """
    count = sum(c * h * w for c, h, w in net.shapes)
    noise = _draw(net.shapes, torch.randn(len(images), count, generator=generator))
    c = net.condition(columns, len(images))
    mean, log, _, divergence = net.decode(noise, c, net.features(images))
    scaled = (images - mean) * (-log).exp()
    half = _HALF * (-log).exp()
    above = torch.special.ndtr(scaled + half).masked_fill(images > 1 - _HALF, 1.0)
    below = torch.special.ndtr(scaled - half).masked_fill(images < _HALF - 1, 0.0)
    mass = above - below
    density = -(scaled.square() / 2) + (2 * half).log() - 0.9189385  # where the mass underflows
    nats = torch.where(mass > 1e-5, mass.clamp(min=1e-5).log(), density)
    return (beta * divergence - nats.flatten(1).sum(1)).mean() / images[0].numel()


class HVAEEquation(Equation):
    """Abduct latents and residual, and decode them given other parents.

    Args:
        net: The autoencoder.
        parents: Each (n,).
    """

    def __init__(self, net: HVAE, parents: Columns) -> None:
        self.net, self.parents = net, parents

    @torch.no_grad()
    def abduct(self, x: Tensor, draws: Draws) -> Tensor:
        """Return a posterior sample of the latents, and the residual; one row per record."""
        count, out = sum(c * h * w for c, h, w in self.net.shapes), []
        numbers = torch.from_numpy(draws.normal(count)).float()
        for rows, c in self._parts(len(x)):
            image = 2 * x[rows].float() - 1
            noise = _draw(self.net.shapes, numbers[rows])
            _, _, latents, _ = self.net.decode(noise, c, self.net.features(image))
            mean, log = self._image_distribution(latents, c)
            residual = (image.double() - mean.double()) / log.double().exp()
            out.append(torch.cat([z.flatten(1).double() for z in (*latents, residual)], 1))
        return torch.cat(out)

    @torch.no_grad()
    def predict(self, u: Tensor) -> Tensor:
        """Return images, (n, 1, H, W), approximately 0 to 1."""
        count, out = sum(c * h * w for c, h, w in self.net.shapes), []
        for rows, c in self._parts(len(u)):
            latents = _draw(self.net.shapes, u[rows, :count].float())
            mean, log = self._image_distribution(latents, c)
            residual = u[rows, count:].view(-1, *mean.shape[1:])
            out.append((mean.double() + log.double().exp() * residual + 1) / 2)
        return torch.cat(out)

    @torch.no_grad()
    def sample_noise(self, draws: Draws) -> Tensor:
        """Return latents from the prior and a standard normal residual."""
        size = self.net.config.size
        count, out = sum(c * h * w for c, h, w in self.net.shapes), []
        numbers = torch.from_numpy(draws.normal(count + size[0] * size[1]))
        for rows, c in self._parts(len(numbers)):
            noise = _draw(self.net.shapes, numbers[rows, :count].float())
            latents = self.net.decode(noise, c)[2]
            parts = [*(z.flatten(1).double() for z in latents), numbers[rows, count:]]
            out.append(torch.cat(parts, 1))
        return torch.cat(out)

    def _image_distribution(self, latents: list[Tensor], c: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image's mean, clamped to black and white, and its log scale.

        Beyond black and white the likelihood is flat, so an unclamped mean and its residual could
        be arbitrarily large.
        """
        mean, log, _, _ = self.net.decode(latents, c, z=True)
        return mean.clamp(-1, 1), log

    def _parts(self, n: int) -> list[tuple[Tensor, Tensor]]:
        """Return the rows of each chunk and their embedded parents."""
        features = []
        for rows in torch.arange(n).split(_CHUNK):
            columns = {name: c[rows].float() for name, c in self.parents.items()}
            features.append((rows, self.net.condition(columns, len(rows))))
        return features
