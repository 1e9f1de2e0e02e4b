"""RadiT, a rectified flow transformer: the velocity of an image, given a patient's variables.

A diffusion transformer with RMS norms of queries and keys, SwiGLU and two-dimensional rotary
positions, for pixels or latents. The shapes are our own, as arXiv:2606.19460 does not publish its
shapes. `RadiTConfig` is in `causalcxr.radit.shape`.

References:
    Scalable Diffusion Models with Transformers (Peebles & Xie), arXiv:2212.09748.
    Scaling Rectified Flow Transformers (Esser et al.), arXiv:2403.03206.
    Back to Basics: Let Denoising Generative Models Denoise (Li & He), arXiv:2511.13720.
    PixArt-alpha, for the shared modulation (Chen et al.), arXiv:2310.00426.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu
from torch.utils.checkpoint import checkpoint

from causalcxr.graph.variables import Variable
from causalcxr.radit.conditioning import Conditioner
from causalcxr.radit.mean_image import MeanImage
from causalcxr.radit.shape import SIZES, RadiTConfig
from causalcxr.radit.windows import Windows

__all__ = ["SIZES", "Condition", "RadiT", "RadiTConfig"]

_LEAST_NOISE = 0.05  # the least 1 - t by which the distance to a predicted image is divided


def _rotary(rows: int, columns: int, dim: int, extra: int) -> Tensor:
    """Return cosines and sines of two-dimensional rotary positions, (2, tokens, dim / 2).

    The first `extra` tokens have no position and are not rotated. Angles are relative to the
    longer side, so that they are the same at other resolutions.
    """
    frequency = 10.0 ** -torch.linspace(0, 1, dim // 4) * (torch.pi / 2) * 8 / max(rows, columns)
    down = torch.arange(rows)[:, None, None] * frequency
    right = torch.arange(columns)[None, :, None] * frequency
    both = torch.cat([down.expand(-1, columns, -1), right.expand(rows, -1, -1)], -1)
    angles = torch.cat([torch.zeros(extra, dim // 2), rearrange(both, "h w d -> (h w) d")])
    return torch.stack([angles.cos(), angles.sin()])


def _rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """Rotate each pair of numbers of queries or keys (B, heads, N, d) by its position's angle."""
    a, b = x.chunk(2, -1)
    cos, sin = rotary
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class Block(nn.Module):
    """Attention, then a gated MLP, both modulated by the condition (adaLN-zero).

    Args:
        config: The configuration. With `modulation: shared` the modulation is passed in and the
            block adds its own table; with `blocks` the block has a layer for it.
    """

    def __init__(self, config: RadiTConfig) -> None:
        super().__init__()
        width, hidden, self.heads = config.width, config.hidden, config.heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        # Zero at first: the gates are zero and the block is the identity.
        self.table = nn.Parameter(torch.zeros(6, width))
        self.scale = nn.Parameter(torch.ones(self.heads, 1, 1))
        self.modulate = None
        if config.modulation == "blocks":
            self.modulate = nn.Linear(width, 6 * width, bias=False)
            nn.init.zeros_(self.modulate.weight)

    def forward(self, x: Tensor, c: Tensor, rotary: Tensor) -> Tensor:
        """Map tokens (B, N, width) under a condition: (B, 6, width) if shared, else (B, width)."""
        if self.modulate is not None:
            c = rearrange(self.modulate(c), "b (i d) -> b i d", i=6)
        s1, b1, g1, s2, b2, g2 = (c + self.table).unsqueeze(2).unbind(1)
        # Attention: normalise, scale and shift, then project to queries, keys and values.
        mixed = self.qkv(torch.addcmul(b1, rms_norm(x, x.shape[-1:]), 1 + s1))
        q, k, v = rearrange(mixed, "b n (i h d) -> i b h n d", i=3, h=self.heads)
        # Normalised queries and keys keep the scores bounded; each head learns its scale.
        q = _rotate(rms_norm(q, q.shape[-1:]), rotary) * self.scale
        k = _rotate(rms_norm(k, k.shape[-1:]), rotary)
        attended = scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v)
        x = torch.addcmul(x, g1, self.out(rearrange(attended, "b h n d -> b n (h d)")))
        # The gated MLP, modulated in the same way.
        value, gate = self.gate(torch.addcmul(b2, rms_norm(x, x.shape[-1:]), 1 + s2)).chunk(2, -1)
        return torch.addcmul(x, g2, self.down(value * silu(gate)))


class Condition(NamedTuple):
    """The embedded variables, the same for all times.

    Args:
        vectors: The base, then one vector per variable, (B, 1 + variables, width).
        places: What the variables add to the token of each patch, (B, N, width), if they enter by
            places.
    """

    vectors: Tensor
    places: Tensor | None = None


def _patches(x: Tensor, side: int) -> Tensor:
    """Return the patches of images (B, C, H, W), (B, patches, C * side * side)."""
    return rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=side, q=side)


class RadiT(nn.Module):
    """Predict the velocity dx/dt of the straight path from noise (t = 0) to image (t = 1).

    Args:
        config: The configuration of the network.
        variables: The tabular parents of the image.

    Example:
        >>> net = RadiT(RadiTConfig(resolution=(24, 16), patch=4, width=32, depth=1, heads=2), [])
        >>> c = net.embed_condition({}, 2)
        >>> net(torch.zeros(2, 1, 24, 16), torch.tensor([0.0, 1.0]), c).shape
        torch.Size([2, 1, 24, 16])
    """

    def __init__(self, config: RadiTConfig, variables: Sequence[Variable]) -> None:
        super().__init__()
        self.config = config
        (rows, columns), width = config.grid, config.width
        self.conditioner = Conditioner(variables, width, config.numbers)
        self.condition = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.embed = nn.Linear(config.channels * config.patch**2, width)
        self.position = nn.Parameter(torch.randn(rows * columns, width) * 0.02)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final = nn.Linear(width, 2 * width)
        self.unembed = nn.Linear(width, config.channels * config.patch**2)
        self.mean = self.embed_mean = None
        self.calibration: nn.Module | None = None  # see `causalcxr.radit.calibration`
        if config.entry == "places":
            self.mean = MeanImage.of_shape(variables, config)
            numbers = config.channels * self.mean.cells**2
            self.embed_mean = nn.Linear(numbers, width, bias=False)
        self.modulation = None
        if config.modulation == "shared":
            self.modulation = nn.Linear(width, 6 * width)
        self.tokens = len(self.conditioner.names) * (config.entry in ("tokens", "both"))
        # A network with windows sees one of them at a time.
        self.windows: Windows | None = None
        if config.window:
            self.windows = Windows(config.grid, config.window, config.patch)
            rows = columns = config.window
        rotary = _rotary(rows, columns, width // config.heads, self.tokens)
        self.register_buffer("rotary", rotary, persistent=False)
        self.recompute = False  # keep only a block's input, and recompute it for the gradient
        # Initially every block is the identity and the velocity is zero.
        for layer in (self.modulation, self.final, self.unembed):
            if layer is not None:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def embed_condition(self, columns: dict[str, Tensor], rows: int) -> Condition:
        """Embed the variables once for all times.

        Args:
            columns: Level positions and numbers, each (B,), NaN where missing.
            rows: B, for the case without columns.
        """
        vectors = self.conditioner(columns, rows)
        if self.mean is None:
            return Condition(vectors)
        # The mean image, and each variable where it acts.
        means = _patches(self.mean(columns, rows), self.mean.cells)
        gates = self.mean.gates.flatten(1).to(vectors.dtype)
        local = torch.einsum("vn,bvd->bnd", gates, vectors[:, 1:])
        return Condition(vectors, self.embed_mean(means) + local)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        condition: Condition | None = None,
        *,
        columns: dict[str, Tensor] | None = None,
        corners: Tensor | None = None,
    ) -> Tensor:
        """Return the velocity, (B, channels, H, W).

        Args:
            x: Images with noise, (B, channels, H, W), about [-1, 1] at t = 1.
            t: Times in [0, 1], (B,).
            condition: The result of `embed_condition`, the same for all times.
            columns: The variables, each (B,), if there is no condition.
            corners: The top left patch of each window, (B, 2), if `x` are windows of images; the
                result is theirs.
        """
        config = self.config
        if condition is None:
            condition = self.embed_condition(columns or {}, len(x))
        if self.windows is not None and corners is None:
            return self._whole(x, t, condition)
        c = self._vector(t, condition.vectors)
        # Cut the image into patches, one token each.
        position, places = self.position, condition.places
        if corners is not None:
            here = self.windows.tokens(corners)
            position = position[here]
            if places is not None:
                places = places.gather(1, here.unsqueeze(-1).expand(-1, -1, places.shape[-1]))
        tokens = self.embed(_patches(x, config.patch)) + position
        if places is not None:
            tokens = tokens + places.to(tokens.dtype)
        # Variables come first in the sequence; the base of the condition is no token.
        if self.tokens:
            tokens = torch.cat([condition.vectors[:, 1:].to(tokens.dtype), tokens], 1)
        # Shared modulation is computed once for all blocks.
        modulation = c
        if self.modulation is not None:
            modulation = rearrange(self.modulation(c), "b (i d) -> b i d", i=6)
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, modulation, self.rotary, use_reentrant=False)
            else:
                tokens = block(tokens, modulation, self.rotary)
        # Drop the variables' tokens, then project each patch back to pixels.
        tokens = tokens[:, self.tokens :]
        scale, shift = self.final(c)[:, None].chunk(2, -1)
        out = self.unembed(torch.addcmul(shift, rms_norm(tokens, tokens.shape[-1:]), 1 + scale))
        result = rearrange(
            out,
            "b (h w) (c p q) -> b c (h p) (w q)",
            h=x.shape[2] // config.patch,
            p=config.patch,
            q=config.patch,
        )
        if config.predicts == "image":
            # The path is straight: the image is one minus t of velocity away.
            result = (result - x) / (1 - t).clamp(min=_LEAST_NOISE).view(-1, 1, 1, 1)
        return result

    def _whole(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Return the velocity of whole images, from those of overlapping windows."""
        n, windows = len(x), self.windows
        corners = windows.corners.to(x.device).repeat_interleave(n, 0)
        times = len(windows.corners)
        parts = [None if p is None else p.repeat(times, *[1] * (p.ndim - 1)) for p in condition]
        cut = windows.cut(x.repeat(times, 1, 1, 1), corners)
        return windows.blended(self(cut, t.repeat(times), Condition(*parts), corners=corners))

    def _vector(self, t: Tensor, condition: Tensor) -> Tensor:
        """Return the vector of the modulation: time, plus the variables if they enter by it."""
        half = self.config.width // 2
        angle = t[:, None] * torch.logspace(0, 3, half, device=t.device)
        c = self.time(torch.cat([angle.cos(), angle.sin()], -1))
        if self.config.entry in ("adaln", "both"):
            c = c + self.condition(condition.sum(1))
        else:
            c = c + self.condition(condition[:, 0])
        return silu(c)
