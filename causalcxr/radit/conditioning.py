"""Embeddings of a patient's variables.

There is one embedding per variable: a row of a table for a level, Fourier features or a spline
basis for a number, and a learned null where the value is missing. Each embedding can be reused in
a network for other variables, by name.
"""

import json
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from causalcxr.graph.variables import Variable

__all__ = ["Conditioner"]

_FREQUENCIES = 8  # the highest has four periods over the variable's range
_KNOTS = 17  # as many features as the frequencies give


def _fourier(unit: Tensor) -> Tensor:
    """Return a value in [0, 1] and its sines and cosines, (B, 17)."""
    angles = unit[:, None] * torch.arange(1, _FREQUENCIES + 1).to(unit) * torch.pi
    return torch.cat([unit[:, None], angles.sin(), angles.cos()], -1)


def _spline(unit: Tensor) -> Tensor:
    """Return cubic B-splines on even knots, (B, 17); beyond the range they fall to zero.

    Example:
        >>> bool(torch.allclose(_spline(torch.linspace(0, 1, 9)).sum(-1), torch.ones(9)))
        True
    """
    # Knots lie one interval beyond the range on both sides, so that the basis sums to 1 inside.
    place = unit[:, None] * (_KNOTS - 3) + 1
    d = (place - torch.arange(_KNOTS).to(unit)).abs()
    # The two cubic pieces of a B-spline, by the distance to its knot.
    near, far = (4 - 6 * d**2 + 3 * d**3) / 6, (2 - d).clamp(min=0) ** 3 / 6
    return torch.where(d < 1, near, far)


def _smooth(unit: Tensor) -> Tensor:
    """Return the sines and cosines, those of frequency k divided by k squared, (B, 17).

    With steps of equal size, training then prefers smooth functions, as a penalty on the second
    derivative would: few patients have any one age, and a free function of age fits their noise.
    """
    squares = torch.arange(1, _FREQUENCIES + 1).to(unit).square().repeat(2)
    return _fourier(unit) / torch.cat([squares.new_ones(1), squares])


_FEATURES = {"fourier": _fourier, "spline": _spline, "smooth": _smooth}


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
        if "table" not in state:  # it was a continuous variable
            null = state["nothing"]
            return {"table": null.expand(len(self.table), -1).clone()}
        null = len(levels)
        rows = [levels.index(v) if v in levels else null for v in self.levels]
        return {"table": state["table"][[*rows, null]].clone()}


class _Number(nn.Module):
    """Features of a value scaled to its range; the null is a vector of its own."""

    def __init__(self, variable: Variable, width: int, features: str) -> None:
        super().__init__()
        self.features = features
        low, high = variable.range or (-1.0, 1.0)
        self.low, self.high = float(low), float(high)
        self.weight = nn.Parameter(torch.randn(2 * _FREQUENCIES + 1, width) * 0.1)
        self.nothing = nn.Parameter(torch.randn(width) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        # Missing values become 0 here, as NaN would spread to the gradients; `where` selects the
        # null.
        unit = (torch.nan_to_num(x) - self.low) / (self.high - self.low)
        features = _FEATURES[self.features](unit).to(self.weight.dtype)
        return torch.where(x.isnan()[:, None], self.nothing, features @ self.weight)

    def adopt(self, state: dict[str, Tensor], bounds: list[float]) -> dict[str, Tensor]:
        """Return another number's weights where the range is the same, and its null."""
        if "weight" in state and bounds == [self.low, self.high]:
            return {key: state[key].clone() for key in ("weight", "nothing")}
        null = state["nothing"] if "nothing" in state else state["table"][-1]
        # No feature is constant, so the values cannot all be the null: they start at zero.
        return {"weight": torch.zeros_like(self.weight), "nothing": null.clone()}


class Conditioner(nn.Module):
    """Embed every variable.

    Args:
        variables: The parents of the image, tabular only.
        width: The length of an embedding.
        numbers: `fourier`, `smooth` or `spline`.
    """

    def __init__(
        self, variables: Sequence[Variable], width: int, numbers: str = "fourier"
    ) -> None:
        super().__init__()
        self.names = tuple(v.name for v in variables)
        self.embeddings = nn.ModuleList(
            _Levels(v, width) if v.is_discrete else _Number(v, width, numbers) for v in variables
        )
        self.base = nn.Parameter(torch.zeros(width))

    def forward(self, columns: dict[str, Tensor], rows: int) -> Tensor:
        """Embed level positions and numbers, each (B,), NaN where missing.

        Returns:
            The base, then one vector a variable, (B, 1 + variables, width).
        """
        parts = [embed(columns[n]) for n, embed in zip(self.names, self.embeddings, strict=True)]
        return torch.stack([self.base.expand(rows, -1), *parts], 1)

    def describe(self) -> str:
        """Return the meaning of each embedding as JSON: the levels, or a number's range."""
        about = {
            name: list(e.levels) if isinstance(e, _Levels) else [e.low, e.high]
            for name, e in zip(self.names, self.embeddings, strict=True)
        }
        return json.dumps(about)

    @torch.no_grad()
    def adopt(self, state: dict[str, Tensor], described: str) -> dict[str, Tensor]:
        """Reuse the embeddings of another conditioner, by the names of variables and levels.

        A new variable starts at zero. The null of a removed variable is added to the base, as if
        that variable were missing. A new level starts as the null; a number whose range has
        changed keeps only its null.

        Args:
            state: The other's tensors, by their names in its state dict.
            described: The result of the other's `describe`.

        Returns:
            A state dict of this conditioner.
        """
        about: dict[str, list] = json.loads(described)
        # New variables start at zero, so that they change nothing at first.
        result = {name: torch.zeros_like(value) for name, value in self.state_dict().items()}
        result["base"] = state["base"].clone()
        for old, (name, meaning) in enumerate(about.items()):
            prefix = f"embeddings.{old}."
            saved = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            if name not in self.names:
                # A removed variable counts as missing from now on.
                result["base"] += saved["nothing"] if "nothing" in saved else saved["table"][-1]
                continue
            # A variable in both: its embedding decides what it can reuse.
            new = self.names.index(name)
            adopted = self.embeddings[new].adopt(saved, meaning)
            result |= {f"embeddings.{new}.{key}": value for key, value in adopted.items()}
        return result
