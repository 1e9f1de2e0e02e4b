"""The true sizes of planted effects: the values that an audit of a phantom world should find."""

import numpy as np
import pandas as pd

from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.sources.phantom.population import Population, population, sample_noise
from causalcxr.sources.phantom.tables import DEVICES
from causalcxr.sources.phantom.world import World

__all__ = ["planted_effects"]

_SAMPLE = 200_000  # patients over whom probabilities are averaged


def planted_effects(world: World) -> pd.DataFrame:
    """Return the true sizes of the effects that a world plants, from its equations.

    `planted` is the effect through the planted arrow alone: the rise of the probability with the
    cause, all else equal. `causal` is the effect through all arrows from the cause to the outcome.
    `observed` is the difference between records with and without the cause, confounding included:
    the value in a table, up to sampling error.

    Example:
        >>> effects = planted_effects(World(confounding=0.3))
        >>> round(float(effects.loc["confounding", "planted"]), 3)
        0.3
    """
    equations = population(world)
    draws = Draws(record_keys(pd.RangeIndex(_SAMPLE)), seed=1)
    columns = equations.predict(sample_noise(draws), {})
    group = ", ".join(f"{name} {level}" for name, level in world.group.items())
    # Labels are changed after sampling, so all three sizes are the planted one.
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
        "underdiagnosis": (
            f"P(label N | pathology, {group}) - P(label N | pathology, others)",
            *missed,
        ),
    }
    names = ["contrast", "planted", "causal", "observed"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=names)


def _effects(
    equations: Population, name: str, columns: dict[str, np.ndarray]
) -> tuple[float, float, float]:
    """Return the planted, the causal and the observed difference of a probability."""
    probability = equations.distributions[name].probability
    variable, position = probability.cause
    n = len(columns[variable])
    without, with_ = (
        columns | {variable: np.full(n, float(level))} for level in (1 - position, position)
    )
    causal = float(np.mean(probability.given(with_) - probability.given(without)))
    base = float(np.mean(probability.base(with_) - probability.base(without)))
    present, p = probability.present(columns), np.broadcast_to(probability.given(columns), n)
    return causal - base, causal, float(p[present].mean() - p[~present].mean())
