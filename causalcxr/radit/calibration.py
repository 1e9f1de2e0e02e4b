"""The weight and threshold of transport for each variable, calibrated without true twins.

A flow undershoots mean effects. A regression of observed images on their variables has nearly the
right size, and observed images are all that it needs. So, for each variable v, some records get
another value of v, and nothing else changes. With F_i the change that transport makes at weight 1,
M_i the change of the regression's mean image, and g the share of each place that the regression
keeps for v, the slope of F on M and the weight are

    s = sum_i <g F_i, M_i> / sum_i <g M_i, M_i>,    w = 1 / s*

with a jackknife standard error e over the records. Slopes of several variables are shrunk towards
their mean m by empirical Bayes, where t^2 is the variance between variables (DerSimonian & Laird):

    s* = m + t^2 / (t^2 + e^2) (s - m)

Slopes are clipped first, so that weights are 0.7 to 2. The local share of a variable is the root
mean square of M divided by its typical strength, see `causalcxr.radit.guidance`: 1 if the effect
is equal everywhere, near 0 if it is in a small part of the image. The threshold is 0.3 - 0.25 of
that share.

An intervention that changes several variables uses the mean of their settings, weighted by the
size of their regression effects, the norm of M.

References:
    Meta-analysis in clinical trials (DerSimonian & Laird), Controlled Clinical Trials 7, 1986.
"""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from causalcxr.common.errors import ModelError
from causalcxr.common.progress import Progress
from causalcxr.graph.variables import Variable
from causalcxr.radit.column_features import differs
from causalcxr.radit.effect_slope import EffectSlope
from causalcxr.radit.mean_image import MeanImage, evenly_spread
from causalcxr.radit.transformer import RadiT

__all__ = ["Calibration", "calibrate", "shrunk_slopes"]

Columns = dict[str, Tensor]
_FIELDS = ("slope", "error", "share", "size", "weight", "threshold")
_WEIGHTS = (0.7, 2.0)
_THRESHOLDS = (0.05, 0.3)
_USUAL = (1.2, 0.15)  # weight and threshold of a variable without a measured effect
_REGRESSION = 4096  # records of a new regression, at most, evenly spread


class Calibration(nn.Module):
    """The weight and threshold of each variable.

    Args:
        names: The parents of the image.

    Example:
        >>> text = '{"weight": 1.5, "threshold": 0.2, "variables": {}}'
        >>> weight, threshold = Calibration.from_json(text, ["Sex"]).settings(
        ...     {"Sex": torch.zeros(2)}, {"Sex": torch.ones(2)}
        ... )
        >>> weight
        tensor([1.5000, 1.5000], dtype=torch.float64)
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        empty = torch.full((len(self.names), len(_FIELDS)), torch.nan, dtype=torch.float64)
        self.register_buffer("table", empty)
        self.register_buffer("overall", torch.tensor(_USUAL, dtype=torch.float64))

    def settings(self, before: Columns, after: Columns) -> tuple[Tensor, Tensor]:
        """Return weights and thresholds of some records, both (B,), float64.

        Args:
            before: The factual variables, each (B,).
            after: The variables of the twins.
        """
        total = weight = threshold = self.table.new_zeros(1)
        for name, row in zip(self.names, self.table, strict=True):
            numbers = dict(zip(_FIELDS, row, strict=True))
            # A variable without a measured effect has no say.
            size = differs(before[name], after[name]) * numbers["size"].nan_to_num()
            total = total + size
            weight = weight + size * numbers["weight"].nan_to_num()
            threshold = threshold + size * numbers["threshold"].nan_to_num()
        usual = total == 0
        least = total.clamp(min=1e-12)
        return (
            torch.where(usual, self.overall[0], weight / least),
            torch.where(usual, self.overall[1], threshold / least),
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return a row a variable: slope, standard error, local share, weight and threshold."""
        shown = ("slope", "error", "share", "weight", "threshold")
        return [
            {"variable": name, **{key: row[key] for key in shown}}
            for name, row in self._numbers().items()
        ]

    def to_json(self) -> str:
        """Return the calibration as JSON, for the header of a file."""
        weight, threshold = self.overall.tolist()
        about = {"weight": weight, "threshold": threshold, "variables": self._numbers()}
        return json.dumps(about)

    @classmethod
    def from_json(cls, text: str, names: Sequence[str]) -> "Calibration":
        """Return the calibration of these variables; those not listed have the overall weight.

        Raises:
            ModelError: If the text does not hold a calibration.
        """
        calibration = cls(names)
        try:
            about = json.loads(text)
            calibration.overall = torch.tensor(
                [about["weight"], about["threshold"]], dtype=torch.float64
            )
            for k, name in enumerate(calibration.names):
                row = about["variables"].get(name, {})
                values = [row.get(key) for key in _FIELDS]
                numbers = [torch.nan if value is None else float(value) for value in values]
                calibration.table[k] = torch.tensor(numbers, dtype=torch.float64)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ModelError(
                f"calibration in the header of the weights cannot be read ({error}); calibrate "
                "the weights again"
            ) from None
        return calibration

    def _numbers(self) -> dict[str, dict[str, float | None]]:
        """Return the numbers of each variable; None where undefined, as JSON has no NaN."""
        rows = zip(self.names, self.table.tolist(), strict=True)
        return {
            name: {
                key: None if math.isnan(value) else value
                for key, value in zip(_FIELDS, row, strict=True)
            }
            for name, row in rows
        }


def shrunk_slopes(slopes: Tensor, errors: Tensor) -> tuple[Tensor, Tensor]:
    """Return slopes (k,) shrunk towards their mean by their uncertainty, and that mean.

    Args:
        slopes: Their estimates, (k,).
        errors: Their standard errors, (k,).

    Example:
        >>> slopes, errors = torch.tensor([0.5, 0.5, 0.9]), torch.tensor([0.01, 0.01, 0.01])
        >>> shrunk_slopes(slopes, errors)[0]
        tensor([0.5002, 0.5002, 0.8995])
        >>> shrunk_slopes(slopes, torch.tensor([0.01, 0.01, 1.0]))[0]
        tensor([0.5000, 0.5000, 0.5000])
    """
    variances = errors.square().clamp(min=1e-8)
    # The variance between variables, by the method of moments.
    precise = 1 / variances
    mean = (precise * slopes).sum() / precise.sum()
    spread = (precise * (slopes - mean).square()).sum() - (len(slopes) - 1)
    scale = precise.sum() - precise.square().sum() / precise.sum()
    between = (spread / scale.clamp(min=1e-12)).clamp(min=0) if len(slopes) > 1 else spread * 0
    total = 1 / (variances + between)
    mean = (total * slopes).sum() / total.sum()
    return mean + between * total * (slopes - mean), mean


@torch.no_grad()
def calibrate(
    net: RadiT,
    variables: Sequence[Variable],
    images: Callable[[Tensor], Tensor],
    columns: Columns,
    *,
    records: int = 64,
    seed: int = 0,
) -> Calibration:
    """Return the weight and threshold of each variable, from observed images alone.

    Args:
        net: The network.
        variables: The parents of the image.
        images: Row numbers (k,) -> images or latents (k, C, H, W), in the range of the network.
        columns: The parents of every record, each (n,), NaN where missing.
        records: How many records get another value of a variable, at most.
        seed: Seed of the noise.

    Raises:
        ModelError: If there are no records.
    """
    if not columns or not len(next(iter(columns.values()))):
        raise ModelError("calibration needs records with images and variables; give a cohort")
    columns = {name: columns[name].float() for name in net.conditioner.names}
    mean = _regression(net, variables, images, columns)
    calibration = Calibration(net.conditioner.names)
    generator = torch.Generator().manual_seed(seed)
    with Progress("Calibrating", len(calibration.names), "variables") as count:
        for k, name in enumerate(calibration.names):
            rows, values = _other_values(columns[name], records)
            if len(rows):
                facts = {n: column[rows] for n, column in columns.items()}
                effect = EffectSlope.measured(
                    net, mean, name, images(rows), facts, facts | {name: values}, generator
                )
                calibration.table[k, :4] = torch.tensor(effect.numbers, dtype=torch.float64)
            count.add()
    _set_weights(calibration)
    return calibration


def _regression(
    net: RadiT,
    variables: Sequence[Variable],
    images: Callable[[Tensor], Tensor],
    columns: Columns,
) -> MeanImage:
    """Return the network's own regression, or a new one fitted to these records."""
    if net.mean is not None and net.mean.is_fitted:
        return net.mean
    mean = MeanImage.of_shape(variables, net.config)
    rows = evenly_spread(len(next(iter(columns.values()))), _REGRESSION)
    mean.fit(lambda some: images(rows[some]), {n: column[rows] for n, column in columns.items()})
    return mean


def _other_values(column: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return rows with a value, evenly spread, and for each the value of a record that differs."""
    seen = torch.nonzero(~column.isnan())[:, 0]
    rows = seen[evenly_spread(len(seen), most)]
    kept, values = [], []
    for place, row in enumerate(rows.tolist()):
        others = column[seen]
        others = others[others != column[row]]
        if len(others):
            kept.append(row)
            # Evenly spread, and so with the frequencies of the other values.
            values.append(others[(2 * place + 1) * len(others) // (2 * len(rows))])
    return torch.tensor(kept, dtype=torch.long), torch.tensor([float(value) for value in values])


def _set_weights(calibration: Calibration) -> None:
    """Set weights and thresholds from slopes, errors and shares."""
    slope, error, share = calibration.table[:, :3].unbind(1)
    measured = ~(slope.isnan() | error.isnan())
    if not measured.any():
        return
    # Clip before shrinking too, so that one outlier does not move the others.
    low, high = _WEIGHTS
    clipped = slope[measured].clamp(1 / high, 1 / low)
    slopes, mean = shrunk_slopes(clipped, error[measured])
    calibration.table[measured, 4] = 1 / slopes
    least, most = _THRESHOLDS
    calibration.table[measured, 5] = (most - (most - least) * share[measured]).clamp(least, most)
    # Variables without a measured effect change the image by the overall weight.
    calibration.table[~measured, 3] = 0.0
    calibration.overall[0] = 1 / mean
