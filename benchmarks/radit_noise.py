"""Is the abducted noise the prior's, and does every solver find its way back?

    python -m benchmarks radit_noise

The noise of held-out phantoms under the bundled weights: standard deviation, kurtosis, and how
well a predictor reads each parent off it (AUROC, chance is .5; for age the correlation). Then the
error of there and back at 8 to 64 steps a leg, for each solver, without what would carry it over.
"""

import numpy as np
import torch
from scipy.stats import kurtosis
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn.functional import avg_pool2d

from benchmarks import Row, stopwatch
from benchmarks._twins import GRAPH, bound, chance, films, network
from causalcxr import Cohort
from causalcxr.mechanisms.image_equation import Solving
from causalcxr.radit.guidance import guided_velocity
from causalcxr.radit.solvers import SOLVERS, carry, on_lattice, solver, times
from causalcxr.radit.transformer import RadiT

__all__ = ["main"]

_STEPS = (8, 16, 32, 64)


def _features(u: Tensor) -> np.ndarray:
    """Return what a predictor sees of noise (n, 1, H, W): means, and deviations, of patches."""
    means = [avg_pool2d(u, k).flatten(1) for k in (4, 16)]
    spread = avg_pool2d(u.square(), 8).sqrt().flatten(1)
    return torch.cat([*means, spread], 1).numpy()


def _independence(u: Tensor, cohort: Cohort) -> list[Row]:
    """Read each parent off the noise of records that the predictor has not seen."""
    x, half, rows = _features(u), len(u) // 2, []
    for name, column in cohort.columns(GRAPH).items():
        if GRAPH[name].is_image:
            continue
        here, there = x[:half], x[half:]
        a, b = column[:half], column[half:]
        if not GRAPH[name].is_discrete:
            model = make_pipeline(StandardScaler(), RidgeCV(10.0 ** np.arange(1, 8))).fit(here, a)
            value, what = float(np.corrcoef(model.predict(there), b)[0, 1]), "correlation (0)"
        elif min(a.sum(), b.sum(), (a == 0).sum(), (b == 0).sum()) < 10:
            continue  # too few to say anything
        else:
            ridge = LogisticRegressionCV(
                Cs=10.0 ** np.arange(-6, 0),
                max_iter=500,
                scoring="roc_auc",
                l1_ratios=(0,),
                use_legacy_attributes=False,
            )
            model = make_pipeline(StandardScaler(), ridge).fit(here, a == a.max())
            read = model.predict_proba(there)[:, 1]
            value, what = roc_auc_score(b == a.max(), read), "AUROC (.5)"
        rows.append({"what": f"{name} read off the noise, {what}", "value": value})
    return rows


def _round_trip(net: RadiT, cohort: Cohort) -> list[Row]:
    """Return the largest and the mean error of there and back, in units of the grey scale."""
    equation, rows = bound(net, cohort), []
    columns = {name: c.float() for name, c in equation.parents.items()}
    f = guided_velocity(net, columns, len(cohort), 1.0, ())
    t = Solving().start
    grain = torch.from_numpy(chance(cohort).normal(net.config.size[0] ** 2))
    x = 2 * films(cohort).double() - 1
    s = on_lattice(t * x + (1 - t) * grain.view_as(x))
    for name in SOLVERS:
        for steps in _STEPS:
            grid = times(steps, t)
            with torch.no_grad(), stopwatch() as watch:
                there = carry(name, f, solver(name).start(s), grid)
                home = carry(name, f, there, grid, back=True)[:, 0]
            error = (home - s).abs() / (2 * t)
            rows.append(
                {
                    "what": f"there and back, {name}, {steps} steps",
                    "value": float(error.mean()),
                    "largest": float(error.max()),
                    "images/s": len(s) / watch.seconds,
                }
            )
    return rows


def main(quick: bool = False) -> list[Row]:
    """Return the figures, one row each."""
    n, few = (32, 2) if quick else (1000, 16)
    net, cohort = network(), Cohort.load("phantom", n=n, seed=102)
    equation = bound(net, cohort)
    u = equation.standard(equation.abduct(films(cohort), chance(cohort)))
    head: list[Row] = [
        {"what": "standard deviation (.95 to 1.05)", "value": float(u.std())},
        {
            "what": "kurtosis (2.7 to 3.3)",
            "value": float(kurtosis(u.flatten().numpy(), fisher=False)),
        },
    ]
    return [*head, *_independence(u, cohort), *_round_trip(net, cohort.head(few))]
