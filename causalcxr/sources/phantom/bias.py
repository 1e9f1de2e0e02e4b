"""How large the planted effects are: what an audit of a phantom world should find."""

import numpy as np
import pandas as pd

from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.sources.phantom.population import Population, population, sample_noise
from causalcxr.sources.phantom.tables import DEVICES
from causalcxr.sources.phantom.world import World

__all__ = ["planted_effects"]

_SAMPLE = 200_000  # patients over whom chances are averaged: no draw of the effect itself


def planted_effects(world: World) -> pd.DataFrame:
    """Return the true sizes of what a world has planted, from its equations.

    `planted` is the effect through the planted arrow alone: how much the chance rises with the
    cause, all else the same. `causal` is that of all arrows from the cause to the effect itself.
    `observed` is the difference between those with and those without the cause, which also has
    what they share: it is what a table shows, to the sampling error.

    Example:
        >>> effects = planted_effects(World(confounding=0.3))
        >>> round(float(effects.loc["confounding", "planted"]), 3)
        0.3
    """
    equations = population(world)
    draws = Draws(record_keys(pd.RangeIndex(_SAMPLE)), seed=1)
    columns = equations.predict(sample_noise(draws), {})
    group = ", ".join(f"{name} {level}" for name, level in world.group.items())
    missed = (world.underdiagnosis,) * 3
    rows = {
        "confounding": (
            "P(AP | any pathology) - P(AP | none)",
            *_effects(equations, "View", columns),
        ),
        "shortcut": (
            f"P({DEVICES} | {world.disease}) - P({DEVICES} | no {world.disease})",
            *_effects(equations, DEVICES, columns),
        ),
        "underdiagnosis": (f"P(label N | pathology, {group}) - the same of the others", *missed),
    }
    names = ["contrast", "planted", "causal", "observed"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=names)


def _effects(
    equations: Population, name: str, columns: dict[str, np.ndarray]
) -> tuple[float, float, float]:
    """Return the planted, the causal and the observed difference of a chance."""
    chance = equations.laws[name].chance
    variable, position = chance.cause
    n = len(columns[variable])
    without, with_ = (
        columns | {variable: np.full(n, float(level))} for level in (1 - position, position)
    )
    causal = float(np.mean(chance.of(with_) - chance.of(without)))
    base = float(np.mean(chance.base(with_) - chance.base(without)))
    present, p = chance.present(columns), np.broadcast_to(chance.of(columns), n)
    return causal - base, causal, float(p[present].mean() - p[~present].mean())
