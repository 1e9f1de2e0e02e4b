"""A diffusion transformer as published, for comparison with RadiT.

Each block has its own adaLN-zero layer, layer norms, and a plain MLP of four times the width.

References:
    Scalable Diffusion Models with Transformers (Peebles & Xie), arXiv:2212.09748.
    SiT (Ma et al.), arXiv:2401.08740.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from causalcxr.graph.variables import Variable
from causalcxr.radit.conditioning import Conditioner
from causalcxr.radit.transformer import RadiTConfig

__all__ = ["DiffusersDiT", "PlainDiT"]


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = (
            nn.LayerNorm(width, eps=1e-6, elementwise_affine=False) for _ in range(2)
        )
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width)
        )
        self.modulate = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        nn.init.zeros_(self.modulate[1].weight)
        nn.init.zeros_(self.modulate[1].bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        b1, s1, g1, b2, s2, g2 = self.modulate(c)[:, None].chunk(6, -1)
        mixed = self.qkv(self.first(x) * (1 + s1) + b1)
        q, k, v = rearrange(mixed, "b n (i h d) -> i b h n d", i=3, h=self.heads)
        attended = scaled_dot_product_attention(q, k, v)
        x = x + g1 * self.out(rearrange(attended, "b h n d -> b n (h d)"))
        return x + g2 * self.mlp(self.second(x) * (1 + s2) + b2)


class PlainDiT(nn.Module):
    """A plain transformer for the velocity, in the shape of a config."""

    def __init__(self, config: RadiTConfig, variables: Sequence[Variable]) -> None:
        super().__init__()
        self.config, width = config, config.width
        rows, columns = config.grid
        self.conditioner = Conditioner(variables, width)
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.embed = nn.Conv2d(config.channels, width, config.patch, config.patch)
        self.position = nn.Parameter(torch.randn(rows * columns, width) * 0.02)
        self.blocks = nn.ModuleList(_Block(width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.last = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.unembed = nn.Linear(width, config.channels * config.patch**2)

    def forward(self, x: Tensor, t: Tensor, *, columns: dict[str, Tensor]) -> Tensor:
        """Return the velocity, (B, channels, H, W), as `RadiT` does."""
        angle = 1000 * t[:, None] * torch.logspace(0, -4, 128)
        c = self.time(torch.cat([angle.cos(), angle.sin()], -1))
        c = c + self.conditioner(columns, len(x)).sum(1)
        tokens = rearrange(self.embed(x), "b d h w -> b (h w) d") + self.position
        for block in self.blocks:
            tokens = block(tokens, c)
        shift, scale = self.last(c)[:, None].chunk(2, -1)
        out = self.unembed(self.norm(tokens) * (1 + scale) + shift)
        p = self.config.patch
        return rearrange(
            out, "b (h w) (c p q) -> b c (h p) (w q)", h=self.config.grid[0], p=p, q=p
        )


class DiffusersDiT(nn.Module):
    """The transformer of diffusers in the same shape; one label replaces the variables."""

    def __init__(self, config: RadiTConfig) -> None:
        super().__init__()
        from diffusers import DiTTransformer2DModel

        self.inner = DiTTransformer2DModel(
            num_attention_heads=config.heads,
            attention_head_dim=config.width // config.heads,
            in_channels=config.channels,
            out_channels=config.channels,
            num_layers=config.depth,
            sample_size=config.size[0],
            patch_size=config.patch,
            num_embeds_ada_norm=10,
        )

    def forward(self, x: Tensor, t: Tensor, *, columns: dict[str, Tensor]) -> Tensor:
        """Return the velocity, as `RadiT` does."""
        label = torch.nan_to_num(columns["Sex"], nan=2).long()
        return self.inner(x, 1000 * t, label).sample
