"""RadiT, a rectified flow transformer: the velocity of an image, under a patient's variables.

A diffusion transformer with one modulation shared by all blocks, RMS norms of queries and keys,
SwiGLU and two-dimensional rotary positions. The sizes are ours; arXiv:2606.19460 does not publish
its own.

References:
    Scalable Diffusion Models with Transformers (Peebles & Xie), arXiv:2212.09748.
    Scaling Rectified Flow Transformers (Esser et al.), arXiv:2403.03206.
    PixArt-alpha, for the shared modulation (Chen et al.), arXiv:2310.00426.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

from causalcxr.errors import ModelError, nearest
from causalcxr.radit.conditioning import Conditioner
from causalcxr.variables import Variable

__all__ = ["SIZES", "RadiT", "RadiTConfig"]


@dataclass(frozen=True)
class RadiTConfig:
    """The shape of the network.

    Args:
        resolution: Pixels along each side.
        patch: Pixels along each side of a token.
        width: Length of a token's vector.
        depth: Number of blocks.
        heads: Number of attention heads; width / heads must be a multiple of 4.

    Raises:
        ModelError: If the tokens do not fill the image, or the heads the width.
    """

    resolution: int = 64
    patch: int = 8
    width: int = 192
    depth: int = 4
    heads: int = 6

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 1 or self.resolution % self.patch:
            raise ModelError(
                f"RadiT: a resolution of {self.resolution} pixels is no multiple of the patch of "
                f"{self.patch}; use a multiple of {max(8, self.patch)}"
            )
        if self.width % (4 * self.heads):
            raise ModelError(
                f"RadiT: width {self.width} is no multiple of 4 x {self.heads} heads, which the "
                "rotary positions need"
            )

    @classmethod
    def of(cls, size: str, resolution: int) -> "RadiTConfig":
        """Return a size by its name, for 8 x 8 tokens or, below 16 pixels, patches of 2.

        Example:
            >>> RadiTConfig.of("tiny", 128)
            RadiTConfig(resolution=128, patch=16, width=192, depth=4, heads=6)
        """
        if size not in SIZES:
            raise ModelError(f"RadiT: no size {size!r}{nearest(size, SIZES)}; {', '.join(SIZES)}")
        return cls(resolution, max(2, resolution // 8), **SIZES[size])


SIZES = {
    "tiny": {"width": 192, "depth": 4, "heads": 6},
    "small": {"width": 384, "depth": 12, "heads": 6},
}


def _rotary(side: int, dim: int) -> Tensor:
    """Return cosines and sines of two-dimensional rotary positions, (2, side * side, dim / 2)."""
    frequency = 10.0 ** -torch.linspace(0, 1, dim // 4)
    angle = torch.arange(side)[:, None] * frequency * (torch.pi / 2)
    rows = angle[:, None].expand(side, side, -1)
    angles = rearrange(torch.cat([rows, rows.transpose(0, 1)], -1), "h w d -> (h w) d")
    return torch.stack([angles.cos(), angles.sin()])


def _rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """Turn each pair of numbers of queries or keys (B, heads, N, d) by its position's angle."""
    a, b = x.chunk(2, -1)
    cos, sin = rotary
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class Block(nn.Module):
    """Attention, then a gated MLP, both modulated by the condition."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        hidden = 64 * round(width * 8 / 3 / 64)  # as many weights as a plain MLP of 4 x width
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.table = nn.Parameter(torch.zeros(6, width))
        self.scale = nn.Parameter(torch.full((heads, 1, 1), 1.0))

    def forward(self, x: Tensor, modulation: Tensor, rotary: Tensor) -> Tensor:
        """Map tokens (B, N, width) under a modulation (B, 6, width)."""
        s1, b1, g1, s2, b2, g2 = (modulation + self.table).unsqueeze(2).unbind(1)
        mixed = self.qkv(rms_norm(x, x.shape[-1:]) * (1 + s1) + b1)
        q, k, v = rearrange(mixed, "b n (i h d) -> i b h n d", i=3, h=self.heads)
        q = _rotate(rms_norm(q, q.shape[-1:]), rotary) * self.scale
        k = _rotate(rms_norm(k, k.shape[-1:]), rotary)
        attended = rearrange(scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")
        x = x + g1 * self.out(attended)
        value, gate = self.gate(rms_norm(x, x.shape[-1:]) * (1 + s2) + b2).chunk(2, -1)
        return x + g2 * self.down(value * silu(gate))


class RadiT(nn.Module):
    """Predict the velocity dx/dt of the straight path from noise (t = 0) to image (t = 1).

    Args:
        config: The shape of the network.
        variables: The tabular parents of the image.

    Example:
        >>> net = RadiT(RadiTConfig(resolution=16, patch=4, width=32, depth=1, heads=2), [])
        >>> net(torch.zeros(2, 1, 16, 16), torch.tensor([0.0, 1.0]), torch.zeros(2, 32)).shape
        torch.Size([2, 1, 16, 16])
    """

    def __init__(self, config: RadiTConfig, variables: Sequence[Variable]) -> None:
        super().__init__()
        self.config = config
        side, width = config.resolution // config.patch, config.width
        self.conditioner = Conditioner(variables, width)
        self.condition = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.modulation = nn.Linear(width, 6 * width)
        self.embed = nn.Linear(config.patch**2, width)
        self.position = nn.Parameter(torch.randn(side * side, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.depth))
        self.final = nn.Linear(width, 2 * width)
        self.unembed = nn.Linear(width, config.patch**2)
        self.register_buffer("rotary", _rotary(side, width // config.heads), persistent=False)
        # At the start every block is the identity and the velocity is zero.
        for layer in (self.modulation, self.final, self.unembed):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def embed_condition(self, columns: dict[str, Tensor], rows: int) -> Tensor:
        """Embed the variables once for all times, (B, width)."""
        if not self.conditioner.names:
            return self.conditioner.base.expand(rows, -1)
        return self.conditioner(columns)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return the velocity, (B, 1, H, W).

        Args:
            x: Images on their way, (B, 1, H, W), about [-1, 1] at t = 1.
            t: Times in [0, 1], (B,).
            condition: What `embed_condition` returned, (B, width).
        """
        p, side = self.config.patch, self.config.resolution // self.config.patch
        half = self.config.width // 2
        angle = t[:, None] * torch.logspace(0, 3, half, device=t.device)
        c = silu(self.time(torch.cat([angle.cos(), angle.sin()], -1)) + self.condition(condition))
        modulation = rearrange(self.modulation(c), "b (i d) -> b i d", i=6)
        patches = rearrange(x, "b 1 (h p) (w q) -> b (h w) (p q)", p=p, q=p)
        tokens = self.embed(patches) + self.position
        for block in self.blocks:
            tokens = block(tokens, modulation, self.rotary)
        scale, shift = self.final(c)[:, None].chunk(2, -1)
        out = self.unembed(rms_norm(tokens, tokens.shape[-1:]) * (1 + scale) + shift)
        return rearrange(out, "b (h w) (p q) -> b 1 (h p) (w q)", h=side, p=p)
