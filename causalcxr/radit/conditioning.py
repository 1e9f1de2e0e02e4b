"""From a patient's variables to one vector.

One embedding a variable, and their sum: a row of a table for a level, Fourier features for a
number, and a learned null where the value is missing. Each embedding can be carried over to a
network for other variables by name.
"""

import json
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from causalcxr.variables import Variable

__all__ = ["Conditioner"]

_FREQUENCIES = 8  # the highest turns four times over the variable's range


class _Levels(nn.Module):
    """A table of level embeddings; the last row is the null."""

    def __init__(self, variable: Variable, width: int) -> None:
        super().__init__()
        self.levels = tuple(variable.levels)
        self.table = nn.Parameter(torch.randn(len(self.levels) + 1, width) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        row = torch.where(x.isnan(), float(len(self.levels)), x)
        return self.table[row.long()]

    def adopt(self, state: dict[str, Tensor], levels: list[str]) -> dict[str, Tensor]:
        """Return the rows of another table by the names of its levels, else its null."""
        if "table" not in state:  # it was a number there
            null = state["nothing"]
            return {"table": null.expand(len(self.table), -1).clone()}
        null = len(levels)
        rows = [levels.index(v) if v in levels else null for v in self.levels]
        return {"table": state["table"][[*rows, null]].clone()}


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
        angles = unit[:, None] * torch.arange(1, _FREQUENCIES + 1).to(unit) * torch.pi
        features = torch.cat([unit[:, None], angles.sin(), angles.cos()], -1).to(self.weight.dtype)
        return torch.where(x.isnan()[:, None], self.nothing, features @ self.weight)

    def adopt(self, state: dict[str, Tensor], bounds: list[float]) -> dict[str, Tensor]:
        """Return another number's weights where the range is the same, and its null."""
        if "weight" in state and bounds == [self.low, self.high]:
            return {key: state[key].clone() for key in ("weight", "nothing")}
        null = state["nothing"] if "nothing" in state else state["table"][-1]
        # No feature is constant, so the values cannot all be the null: they start at zero.
        return {"weight": torch.zeros_like(self.weight), "nothing": null.clone()}


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
        """Return JSON that tells what each embedding stands for: levels, or a number's range."""
        about = {
            name: list(e.levels) if isinstance(e, _Levels) else [e.low, e.high]
            for name, e in zip(self.names, self.embeddings, strict=True)
        }
        return json.dumps(about)

    @torch.no_grad()
    def adopt(self, state: dict[str, Tensor], described: str) -> dict[str, Tensor]:
        """Carry embeddings over from another conditioner, by the names of variables and levels.

        A variable that is new here starts at zero; one that is gone leaves its null in the base,
        so the network sees what it saw when that variable was missing. A level that is new starts
        as the null; a number whose range has changed keeps its null alone.

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
            prefix = f"embeddings.{old}."
            theirs = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            if name not in self.names:
                mine["base"] += theirs["nothing"] if "nothing" in theirs else theirs["table"][-1]
                continue
            new = self.names.index(name)
            fresh = self.embeddings[new].adopt(theirs, meaning)
            mine |= {f"embeddings.{new}.{key}": value for key, value in fresh.items()}
        return mine
