"""The mean image given the variables, by regression, and the places where each variable acts.

    E[x | c] = B phi(c)

phi has a column per level, a straight line and twelve hat functions (together, a line with bends)
of every number, and the products of all of them with the variable that interacts most (for
radiographs, the projection). A coefficient image is kept where it is larger than its standard
error, place by place, with the non-negative garrote:

    B_fp max(0, 1 - (k SE_fp)^2 / B_fp^2)

The kept share of a variable's coefficients is its gate: 1 where it certainly changes the image, 0
where no effect was found. A flow that sees the mean image, and each variable at its places only,
does not have to learn every effect anew, nor to unlearn effects elsewhere.

References:
    Better Subset Regression Using the Nonnegative Garrote (Breiman), Technometrics 37, 1995.
"""

import json
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate

from causalcxr.common.progress import progress
from causalcxr.graph.variables import Variable
from causalcxr.radit.column_features import Meaning, differs
from causalcxr.radit.shape import RadiTConfig

__all__ = ["MeanImage", "evenly_spread"]

Columns = dict[str, Tensor]
_RECORDS = 65_536  # at most, evenly spread over the records
_TRIAL = 8192  # records with which the interacting variable is chosen
_AT_ONCE = 1024
_RIDGE = 3.0  # prior precision of a coefficient, in units of the residual's
_LEAST_GAIN = 0.003  # share of the held-out error that an interaction must explain
_ERRORS = 2.5  # k: standard errors below which a coefficient is dropped


class MeanImage(nn.Module):
    """Mean images given the variables, and the gates of the variables.

    Before `fit` the mean image is zero and all gates are one.

    Args:
        variables: The parents of the image.
        grid: Rows and columns of places, which are the patches of the network.
        channels: Of the images.
        cells: Numbers of the mean image along each side of a place.

    Example:
        >>> sex = Variable("Sex", "binary", levels=("F", "M"))
        >>> mean = MeanImage([sex], grid=(2, 2), channels=1, cells=2)
        >>> columns = {"Sex": torch.arange(64.0) % 2}
        >>> images = columns["Sex"].view(-1, 1, 1, 1) * torch.ones(1, 1, 4, 4)
        >>> mean.fit(lambda rows: images[rows], columns)
        >>> mean({"Sex": torch.tensor([0.0, 1.0])}).mean((1, 2, 3)).round(decimals=1)
        tensor([0., 1.])
    """

    @classmethod
    def of_shape(cls, variables: Sequence[Variable], config: RadiTConfig) -> "MeanImage":
        """Return the mean image of a network's images, for the places of its patches."""
        return cls(variables, config.grid, config.channels, config.cells)

    def __init__(
        self, variables: Sequence[Variable], grid: tuple[int, int], channels: int, cells: int
    ) -> None:
        super().__init__()
        self.grid, self.cells = grid, cells
        self.own = {v.name: Meaning.from_variable(v) for v in variables}
        self.names = tuple(self.own)
        self.shape = (channels, grid[0] * cells, grid[1] * cells)
        self.meanings = list(self.own.values())
        #: The variable whose products with all others are features; "" for none.
        self.interacting = ""
        n_features = 1 + sum(m.width for m in self.meanings)
        self.register_buffer("centre", torch.zeros(n_features - 1))
        self.register_buffer("weights", torch.zeros(n_features, torch.Size(self.shape).numel()))
        self.register_buffer("gates", torch.ones(len(self.names), *grid))

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` has been called, or fitted weights have been loaded."""
        return bool(self.weights.any())

    def get_extra_state(self) -> Tensor:
        """Return the meaning of the features, as bytes."""
        about = [[m.name, m.levels, m.range, m.knots] for m in self.meanings]
        content = json.dumps({"variables": about, "interacting": self.interacting}).encode()
        return torch.from_numpy(np.frombuffer(content, np.uint8).copy())

    def set_extra_state(self, state: Tensor) -> None:
        """Set the meaning of the features, from bytes."""
        about = json.loads(bytes(state.cpu().numpy()))
        self.meanings = [
            Meaning(name, tuple(levels), tuple(limits), *(knots or [0]))
            for name, levels, limits, *knots in about["variables"]
        ]
        self.interacting = about["interacting"]

    def _load_from_state_dict(self, state: dict, prefix: str, *args: object) -> None:
        # The number of features depends on what was fitted.
        for name in ("centre", "weights"):
            if prefix + name in state:
                setattr(self, name, torch.empty_like(state[prefix + name]))
        super()._load_from_state_dict(state, prefix, *args)

    def forward(self, columns: Columns, rows: int = 0) -> Tensor:
        """Return mean images, (B, channels, h, w), float32.

        Args:
            columns: Level positions and numbers, each (B,); missing variables count as average.
            rows: B, for the case without columns.
        """
        rows = rows or len(next(iter(columns.values())))
        features = self._features(columns, rows, self.centre, self.interacting)
        return (features @ self.weights).view(-1, *self.shape)

    def reach(self, before: Columns, after: Columns, size: tuple[int, int]) -> Tensor:
        """Return where variables that differ act on the image, (B, 1, H, W), 0 to 1.

        This is one minus the product of one minus their gates.

        Args:
            before: The variables, each (B,).
            after: Other values of them.
            size: H and W.
        """
        stays = torch.ones(1, *self.grid, device=self.gates.device)
        for name, gate in zip(self.names, self.gates, strict=True):
            moved = differs(before[name], after[name])
            stays = stays * (1 - moved.to(gate.dtype).view(-1, 1, 1) * gate)
        reach = (1 - stays).unsqueeze(1)
        return interpolate(reach, size, mode="bilinear", align_corners=False)

    def _features(self, columns: Columns, rows: int, centre: Tensor, interacting: str) -> Tensor:
        """Return the features, (B, F): one, every variable's, and the products."""
        parts, start = [], 0
        for meaning in self.meanings:
            stop = start + meaning.width
            x = columns.get(meaning.name)
            if x is None:
                parts.append(centre.new_zeros(rows, meaning.width))
            else:
                x = self._recoded(x.to(centre.dtype), meaning)
                part = meaning.features(x) - centre[start:stop]
                parts.append(torch.nan_to_num(part))
            start = stop
        products = [
            (parts[i][:, :, None] * parts[j][:, None, :]).flatten(1)
            for i, j in self._products(interacting)
        ]
        return torch.cat([centre.new_ones(rows, 1), *parts, *products], 1)

    def _recoded(self, x: Tensor, meaning: Meaning) -> Tensor:
        """Return level positions (B,) among the levels of the features, by name."""
        levels = self.own[meaning.name].levels
        if levels == meaning.levels:
            return x
        places = [meaning.levels.index(v) if v in meaning.levels else torch.nan for v in levels]
        table = x.new_tensor([*places, torch.nan])
        return table[torch.nan_to_num(x, nan=len(levels)).long()]

    def _products(self, interacting: str) -> list[tuple[int, int]]:
        names = [m.name for m in self.meanings]
        if interacting not in names:
            return []
        i = names.index(interacting)
        return [(i, j) for j in range(len(names)) if j != i]

    @torch.no_grad()
    def fit(self, images: Callable[[Tensor], Tensor], columns: Columns) -> None:
        """Fit mean images and gates to records; the result depends on nothing but these.

        Args:
            images: Row numbers (k,) -> images (k, channels, H, W).
            columns: The variables of every record, each (n,).
        """
        n = len(next(iter(columns.values()))) if columns else 0
        if not n:
            return
        # Adopted features may be of other variables.
        self.meanings = list(self.own.values())
        rows = evenly_spread(n, _RECORDS)
        starts = progress(range(0, len(rows), _AT_ONCE), "Mean images", "batches")
        cells = torch.cat([self._cells(images(rows[k : k + _AT_ONCE])) for k in starts])
        chosen = {name: columns[name].cpu().double()[rows] for name in self.names}
        self.interacting = self._most_interacting(cells, chosen)
        regression = _Regression(self, cells, chosen, self.interacting)
        self._keep(regression)

    def _cells(self, images: Tensor) -> Tensor:
        return adaptive_avg_pool2d(images.float(), self.shape[1:]).flatten(1).cpu()

    def _most_interacting(self, cells: Tensor, columns: Columns) -> str:
        """Return the variable whose products explain most of held-out images, "" for none."""
        step = max(1, len(cells) // _TRIAL)
        # The places' means are enough to choose.
        small = avg_pool2d(cells[::step].view(-1, *self.shape), self.cells).flatten(1)
        columns = {name: column[::step] for name, column in columns.items()}
        odd = torch.arange(len(small)) % 4 == 3
        training, held_out = ({n: c[rows] for n, c in columns.items()} for rows in (~odd, odd))

        def error(name: str) -> float:
            fit = _Regression(self, small[~odd], training, name)
            return fit.error(small[odd], held_out)

        plain = error("")
        errors = {m.name: error(m.name) for m in self.meanings}
        best = min(errors, key=errors.__getitem__)
        return best if errors[best] < plain * (1 - _LEAST_GAIN) else ""

    def _keep(self, regression: "_Regression") -> None:
        """Keep coefficients that are larger than their standard errors, and set the gates."""
        shape = (-1, *self.shape)
        power, noise = (
            avg_pool2d(x.view(shape).mean(1, keepdim=True), self.cells)
            for x in (regression.weights**2, regression.variances)
        )
        kept = (1 - _ERRORS**2 * noise / power.clamp(min=1e-20)).clamp(min=0)
        kept[power < 1e-20] = 0  # a level that no record has
        kept[0] = 1.0  # the intercept
        wide = interpolate(kept, scale_factor=self.cells).expand(-1, self.shape[0], -1, -1)
        weights = regression.basis @ (regression.weights * wide.flatten(1))
        self.weights = weights.float().to(self.gates.device)
        self.centre = regression.centre.float().to(self.gates.device)
        gates = [kept[columns, 0].amax(0) for columns in self._columns_of()]
        if gates:
            self.gates.copy_(torch.stack(gates))

    def _lines(self, interacting: str) -> list[int]:
        """Return for every feature itself, or, for the hats of a number, its straight line."""
        own = [[k if m.levels else 0 for k in range(m.width)] for m in self.meanings]
        out = [0]
        for lines in own:
            start = len(out)
            out += [start + k for k in lines]
        for i, j in self._products(interacting):
            start, width = len(out), len(own[j])
            out += [start + a * width + b for a in own[i] for b in own[j]]
        return out

    def _columns_of(self) -> list[list[int]]:
        """Return the features that each variable is part of."""
        out, start = [], 1
        for meaning in self.meanings:
            out.append(list(range(start, start + meaning.width)))
            start += meaning.width
        for i, j in self._products(self.interacting):
            size = self.meanings[i].width * self.meanings[j].width
            for k in (i, j):
                out[k] += range(start, start + size)
            start += size
        return out

    def adopt(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the state of another mean image, with a gate for each of these variables.

        The features keep their meaning; a variable that they do not have has a gate of one.
        """
        about = json.loads(bytes(state["_extra_state"].cpu().numpy()))
        names = [name for name, *_ in about["variables"]]
        gates = torch.ones_like(self.gates)
        for k, name in enumerate(self.names):
            if name in names:
                gates[k] = state["gates"][names.index(name)]
        return {**state, "gates": gates}


def evenly_spread(n: int, most: int) -> Tensor:
    """Return at most so many of n positions, evenly spread.

    Example:
        >>> evenly_spread(10, 4).tolist(), evenly_spread(2, 4).tolist()
        ([0, 2, 5, 7], [0, 1])
    """
    kept = min(n, most)
    return torch.arange(kept) * n // max(1, kept)


class _Regression:
    """Ridge regression of cells on the features, with the variance of each coefficient.

    The hats of a number are made orthogonal to its straight line first: a coefficient that is
    dropped then leaves the best line, however few the records. So the regression is on the
    features times `basis`.
    """

    def __init__(self, mean: MeanImage, cells: Tensor, columns: Columns, interacting: str) -> None:
        self.mean, self.interacting = mean, interacting
        self.centre = torch.cat(
            [m.features(columns[m.name]).nanmean(0).nan_to_num() for m in mean.meanings]
            or [torch.zeros(0, dtype=torch.float64)]
        )
        # Normal equations, some records at a time.
        gram = products = squares = 0.0
        for start in range(0, len(cells), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            x, y = self._features(columns, part), cells[part].double()
            gram, products = gram + x.T @ x, products + x.T @ y
            squares = squares + y.square().sum(0)
        self.basis = torch.eye(len(gram), dtype=torch.float64)
        for k, line in enumerate(mean._lines(interacting)):
            if line != k:
                self.basis[line, k] = -gram[line, k] / gram[line, line].clamp(min=1e-12)
        gram, products = self.basis.T @ gram @ self.basis, self.basis.T @ products
        prior = _RIDGE * torch.eye(len(gram), dtype=torch.float64)
        prior[0, 0] = 1e-6
        inverse = torch.linalg.inv(gram + prior)
        self.weights = inverse @ products
        residual = squares - (self.weights * (2 * products - gram @ self.weights)).sum(0)
        freedom = max(1, len(cells) - len(gram))
        spread = (inverse @ gram @ inverse).diagonal()
        self.variances = spread[:, None] * (residual.clamp(min=0) / freedom)

    def error(self, cells: Tensor, columns: Columns) -> float:
        """Return the mean squared error on other records."""
        x = self._features(columns, slice(None))
        return float((x @ self.basis @ self.weights - cells.double()).square().mean())

    def _features(self, columns: Columns, part: slice) -> Tensor:
        some = {name: column[part] for name, column in columns.items()}
        rows = len(next(iter(some.values())))
        return self.mean._features(some, rows, self.centre, self.interacting)
