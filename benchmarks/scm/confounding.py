"""Effects corrected for a planted hidden cause, against the truth and without a correction.

    python -m benchmarks scm.confounding [--quick]

In each world a hidden variable H is a cause of X and of Y, and the graph does not have it. C is an
observed cause of both, and M a mediator. The correlation of the noises of X and Y is planted, and
the true effect of X on Y is known. Intervals are over random worlds, so that they include the
uncertainty of the fits. In the last row H has two values, which change the odds of X by a known
factor: with this odds ratio the bounds must contain the truth.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from benchmarks import Row
from causalcxr import SCM, Cohort, Graph, do

__all__ = ["WORLDS", "World", "main"]

_BINARY = "{type: binary, levels: [N, P], parents: [PARENTS]}"
_FLOW = "{type: continuous, parents: [PARENTS], mechanism: {kind: flow, epochs: 3}}"
_ORDINAL = "{type: ordinal, levels: [none, small, large], parents: [PARENTS]}"


@dataclass(frozen=True)
class World:
    """A graph without its hidden cause, and how cause and outcome follow from it.

    Args:
        cause: The declaration of X.
        outcome: The declaration of Y.
        x: X of C and its noise.
        y: Y of X, C, the mediator M and its noise.
        high: The value of X under the action.
        low: The value of X under the baseline.
        level: The level of Y whose probability is the outcome; "" for its mean.
        rho: The planted correlation.
    """

    cause: str
    outcome: str
    x: Callable[[np.ndarray, np.ndarray], np.ndarray]
    y: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    high: str | float
    low: str | float
    level: str
    rho: float


def _threshold(u: np.ndarray, mean: np.ndarray, cuts: tuple[float, ...]) -> np.ndarray:
    return sum((u + mean > cut).astype(float) for cut in cuts)


WORLDS = {
    "number, number": World(
        _FLOW, _FLOW, lambda c, u: 0.5 * c + u,
        lambda x, c, m, v: 0.3 * x + 0.4 * c + 0.3 * m + v, 1.0, 0.0, "", 0.5,
    ),
    "binary, number": World(
        _BINARY, _FLOW, lambda c, u: _threshold(u, 0.5 * c, (0.3,)),
        lambda x, c, m, v: 0.5 * x + 0.4 * c + 0.3 * m + v, "P", "N", "", -0.4,
    ),
    "number, binary": World(
        _FLOW, _BINARY, lambda c, u: 0.5 * c + u,
        lambda x, c, m, v: _threshold(v, 0.3 * x + 0.4 * c + 0.3 * m, (0.8,)),
        1.0, 0.0, "P", 0.4,
    ),
    "binary, binary": World(
        _BINARY, _BINARY, lambda c, u: _threshold(u, 0.5 * c, (0.3,)),
        lambda x, c, m, v: _threshold(v, 0.5 * x + 0.4 * c + 0.3 * m, (0.8,)),
        "P", "N", "P", 0.4,
    ),
    "binary, binary, no effect": World(
        _BINARY, _BINARY, lambda c, u: _threshold(u, 0.5 * c, (0.3,)),
        lambda x, c, m, v: _threshold(v, 0.4 * c + 0.3 * m - 0.0 * x, (0.8,)),
        "P", "N", "P", 0.6,
    ),
    "ordinal, ordinal": World(
        _ORDINAL, _ORDINAL, lambda c, u: _threshold(u, 0.5 * c, (0.3, 1.0)),
        lambda x, c, m, v: _threshold(v, 0.4 * x + 0.4 * c + 0.3 * m, (0.8, 1.6)),
        "large", "none", "large", 0.4,
    ),
}  # fmt: skip


def main(quick: bool = False) -> list[Row]:
    """Return one row a world: bias and interval without correction and at the planted rho."""
    worlds, records = (2, 500) if quick else (8, 4000)
    rows = [_row(name, world, worlds, records) for name, world in WORLDS.items()]
    return [*rows, _bounds_row(worlds, records)]


def _row(name: str, world: World, worlds: int, records: int) -> Row:
    """Return the mean effects over random worlds, with 95 % intervals over worlds."""
    answers = pd.DataFrame([_answer(world, records, seed) for seed in range(worlds)])
    truth = _truth(world)
    row: Row = {"cause, outcome": name, "rho": world.rho, "truth": f"{truth:.3f}"}
    for column in ("naive", "corrected"):
        mean, half = _interval(answers[column])
        row[column] = f"{mean:.3f} ± {half:.3f}"
        row[f"{column} contains it"] = "yes" if abs(mean - truth) <= half else "no"
    row["worst world, naive"] = f"{(answers['naive'] - truth).abs().max():.3f}"
    row["worst world, corrected"] = f"{(answers['corrected'] - truth).abs().max():.3f}"
    row["tipping rho"] = f"{answers['tipping'].mean():.2f}"
    return row


def _answer(world: World, records: int, seed: int) -> dict[str, float]:
    """Return the effect of one random world: naive, corrected, and the tipping point."""
    random = np.random.default_rng(seed)
    hidden, one, other = random.normal(size=(3, records))
    share = abs(world.rho) ** 0.5
    u = share * hidden + (1 - share**2) ** 0.5 * one
    v = np.sign(world.rho) * share * hidden + (1 - share**2) ** 0.5 * other
    c = random.integers(0, 2, records).astype(float)
    x = world.x(c, u)
    m = (random.random(records) < _mediator(x)).astype(float)
    columns = {"C": c, "X": x, "M": m, "Y": world.y(x, c, m, v)}
    model, cohort = _fitted(world.cause, world.outcome, columns, seed)
    result = model.confounding(
        cohort, do(x=world.high), do(x=world.low), between=("X", "Y"),
        rho=[*np.linspace(-0.9, 0.9, 19).round(1), world.rho], variables="Y", seed=seed, draws=4,
    )  # fmt: skip
    table = result.table["change"].xs(world.level, level="level").droplevel([0, 1, 3])
    tipping = result.tipping.loc[("X", "Y", "Y", world.level), "rho"]
    return {"naive": table[0.0], "corrected": table[world.rho], "tipping": tipping}


def _bounds_row(worlds: int, records: int) -> Row:
    """Return the row of the hidden cause with two values."""
    x = np.array([-0.3, 0.3])[:, None] + np.array([-0.6, 0.6])  # log odds of X, by C and H
    y = np.array([[-1.2, -0.4], [-0.5, 0.3]])[:, :, None] + np.array([-0.6, 0.6])  # by X, C and H
    p, q = 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(-y))
    truth = float((q[1] - q[0]).mean())
    marginal = p.mean(1, keepdims=True)
    odds = float(np.exp(np.abs(x - np.log(marginal / (1 - marginal))).max()))
    answers = []
    for seed in range(worlds):
        random = np.random.default_rng(seed)
        c, h = random.integers(0, 2, (2, records))
        chosen = (random.random(records) < p[c, h]).astype(int)
        outcome = (random.random(records) < q[chosen, c, h]).astype(float)
        m = random.integers(0, 2, records)
        columns = {"C": c, "X": chosen, "M": m, "Y": outcome}
        model, cohort = _fitted(_BINARY, _BINARY, columns, seed)
        result = model.confounding(
            cohort, do(x="P"), do(x="N"), between=("X", "Y"), rho=0, odds_ratio=odds, seed=seed
        )
        rows = result.bounds.xs("P", level="level").droplevel([0, 1])
        answers.append([rows.loc[1.0, "lower"], rows.loc[odds, "lower"], rows.loc[odds, "upper"]])
    naive, lower, upper = np.array(answers).T
    mean, half = _interval(pd.Series(naive))
    inside = int(((lower <= truth) & (truth <= upper)).sum())
    return {
        "cause, outcome": f"binary, binary, odds ratio {odds:.2f}",
        "rho": "",
        "truth": f"{truth:.3f}",
        "naive": f"{mean:.3f} ± {half:.3f}",
        "naive contains it": "yes" if abs(mean - truth) <= half else "no",
        "corrected": f"[{lower.mean():.3f}, {upper.mean():.3f}]",
        "corrected contains it": f"{inside} of {worlds}",
        "worst world, naive": f"{np.abs(naive - truth).max():.3f}",
    }


def _fitted(
    cause: str, outcome: str, columns: dict[str, np.ndarray], seed: int
) -> tuple[SCM, Cohort]:
    """Return a model that does not know the hidden cause, and its records."""
    text = {"C": "{type: binary, levels: [N, P]}"}
    text["X"] = cause.replace("PARENTS", "C")
    text["M"] = _BINARY.replace("PARENTS", "X")
    text["Y"] = outcome.replace("PARENTS", "C, X, M")
    graph = Graph.parse("variables:\n" + "".join(f"  {k}: {v}\n" for k, v in text.items()))
    levels = {name: np.array(graph[name].levels, dtype=object) for name in text}
    words = {
        name: levels[name][column.astype(int)] if len(levels[name]) else column
        for name, column in columns.items()
    }
    cohort = Cohort(pd.DataFrame(words))
    return SCM(graph).fit(cohort, seed=seed, progress=False), cohort


def _truth(world: World, count: int = 2_000_000) -> float:
    """Return the true effect of X on Y, from new records without selection."""
    random = np.random.default_rng(10**6)
    v, c = random.normal(size=count), random.integers(0, 2, count).astype(float)
    w, means = random.random(count), []
    for value in (world.low, world.high):
        x = np.full(count, {"N": 0.0, "P": 1.0, "none": 0.0, "large": 2.0}.get(value, value))
        y = world.y(x, c, (w < _mediator(x)).astype(float), v)
        means.append(y.mean() if not world.level else (y == y.max()).mean())
    return float(means[1] - means[0])


def _mediator(x: np.ndarray) -> np.ndarray:
    """Return the probability that M is positive."""
    return norm.cdf(x - 0.5)


def _interval(values: pd.Series) -> tuple[float, float]:
    """Return a mean and half the width of its 95 % interval."""
    return values.mean(), values.sem() * t.ppf(0.975, len(values) - 1)
