"""From a patient's variables to one vector: an embedding per variable, a learned null where it is missing."""

import json
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from causalcxr.variables import Variable

__all__ = ["Conditioner"]

_FREQUENCIES = 8


class _Levels(nn.Module):
    """A table of level embeddings; the last row is the null."""

    def __init__(self, variable: Variable, width: int) -> None:
        super().__init__()
        self.levels = tuple(variable.levels)
        self.table = nn.Parameter(torch.randn(len(self.levels) + 1, width) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        row = torch.where(x.isnan(), float(len(self.levels)), x)
        return self.table[row.long()]

    def null(self) -> Tensor:
        return self.table[-1]


class _Number(nn.Module):
    """Fourier features of a value scaled to its range; the null is a vector of its own."""

    def __init__(self, variable: Variable, width: int) -> None:
        super().__init__()
        low, high = variable.range or (-1.0, 1.0)
        self.low, self.high = float(low), float(high)
        self.weight = nn.Parameter(torch.randn(2 * _FREQUENCIES + 1, width) * 0.1)
        self.nothing = nn.Parameter(torch.randn(width) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        unit = (torch.nan_to_num(x) - self.low) / (self.high - self.low)
        angles = unit[:, None] * torch.arange(1, _FREQUENCIES + 1) .to(unit) * torch.pi
        features = torch.cat([unit[:, None], angles.sin(), angles.cos()], -1).to(self.weight.dtype)
        return torch.where(x.isnan()[:, None], self.nothing, features @ self.weight)

    def null(self) -> Tensor:
        return self.nothing


class Conditioner(nn.Module):
    """Sum one embedding a variable.

    Args:
        variables: The parents of the image, tabular only.
        width: The length of the embedding.
    """

    def __init__(self, variables: Sequence[Variable], width: int) -> None:
        super().__init__()
        self.names = tuple(v.name for v in variables)
        self.embeddings = nn.ModuleList(
            _Levels(v, width) if v.is_discrete else _Number(v, width) for v in variables
        )
        self.base = nn.Parameter(torch.zeros(width))

    def forward(self, columns: dict[str, Tensor]) -> Tensor:
        """Embed level positions and numbers, each (B,), NaN where missing, to (B, width)."""
        parts = [embed(columns[n]) for n, embed in zip(self.names, self.embeddings, strict=True)]
        return self.base + torch.stack(parts).sum(0)

    def describe(self) -> str:
        """Return JSON that tells what each embedding stands for: levels by name, ranges of numbers."""
        about = {
            name: list(e.levels) if isinstance(e, _Levels) else [e.low, e.high]
            for name, e in zip(self.names, self.embeddings, strict=True)
        }
        return json.dumps(about)

    @torch.no_grad()
    def adopt(self, state: dict[str, Tensor], described: str) -> dict[str, Tensor]:
        """Carry embeddings over from another conditioner, by the names of variables and levels.

        A variable that is new here starts at zero; one that is gone leaves its null in the base, so the network sees what
        it saw when that variable was missing. A level that is new starts as the null.

        Args:
            state: The other's tensors, by their names in its state dict.
            described: What the other's `describe` said.

        Returns:
            A state dict of this conditioner.
        """
        about: dict[str, list] = json.loads(described)
        mine = {name: torch.zeros_like(value) for name, value in self.state_dict().items()}
        mine["base"] = state["base"].clone()
        for old, (name, meaning) in enumerate(about.items()):
            source = {key.split(".")[-1]: v for key, v in state.items() if key.startswith(f"embeddings.{old}.")}
            null = source["nothing"] if "nothing" in source else source["table"][-1]
            if name not in self.names:
                mine["base"] += null
                continue
            new = self.names.index(name)
            embed = self.embeddings[new]
            if isinstance(embed, _Levels) and "table" in source:
                rows = [meaning.index(v) if v in meaning else len(meaning) for v in embed.levels]
                mine[f"embeddings.{new}.table"] = source["table"][[*rows, len(meaning)]].clone()
            elif isinstance(embed, _Number) and "weight" in source:
                mine[f"embeddings.{new}.nothing"] = null.clone()
                if meaning == [embed.low, embed.high]:
                    mine[f"embeddings.{new}.weight"] = source["weight"].clone()
        return mine
