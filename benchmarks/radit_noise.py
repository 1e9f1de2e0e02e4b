"""Whether abducted noise follows its prior, and the round-trip error of each solver.

    python -m benchmarks radit_noise

The noise of held-out phantoms under the bundled weights: standard deviation, kurtosis, and how
well each parent can be predicted from it (AUROC, .5 if not at all; for age the correlation). Then
the error of mapping images to noise and back with 8 to 64 steps in each direction, for each
solver, without the correction that is carried over.
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
from benchmarks._image_twins import GRAPH, bind_parents, load_network, radiographs, record_draws
from causalcxr import Cohort
from causalcxr.mechanisms.image_equation import Solving
from causalcxr.radit.guidance import guided_velocity
from causalcxr.radit.solvers import SOLVERS, carry, on_lattice, solver, times
from causalcxr.radit.transformer import RadiT

__all__ = ["main"]

_STEPS = (8, 16, 32, 64)


def _features(u: Tensor) -> np.ndarray:
    """Return the means and standard deviations of patches of noise (n, 1, H, W)."""
    means = [avg_pool2d(u, k).flatten(1) for k in (4, 16)]
    spread = avg_pool2d(u.square(), 8).sqrt().flatten(1)
    return torch.cat([*means, spread], 1).numpy()


def _independence(u: Tensor, cohort: Cohort) -> list[Row]:
    """Predict each parent from the noise of held-out records."""
    x, half, rows = _features(u), len(u) // 2, []
    for name, column in cohort.columns(GRAPH).items():
        if GRAPH[name].is_image:
            continue
        fit_rows, test_rows = x[:half], x[half:]
        fit_column, test_column = column[:half], column[half:]
        if not GRAPH[name].is_discrete:
            model = make_pipeline(StandardScaler(), RidgeCV(10.0 ** np.arange(1, 8))).fit(
                fit_rows, fit_column
            )
            value, what = (
                float(np.corrcoef(model.predict(test_rows), test_column)[0, 1]),
                "correlation (0)",
            )
        elif (
            min(
                fit_column.sum(),
                test_column.sum(),
                (fit_column == 0).sum(),
                (test_column == 0).sum(),
            )
            < 10
        ):
            continue  # too few records of one level
        else:
            ridge = LogisticRegressionCV(
                Cs=10.0 ** np.arange(-6, 0),
                max_iter=500,
                scoring="roc_auc",
                l1_ratios=(0,),
                use_legacy_attributes=False,
            )
            model = make_pipeline(StandardScaler(), ridge).fit(
                fit_rows, fit_column == fit_column.max()
            )
            read = model.predict_proba(test_rows)[:, 1]
            value, what = roc_auc_score(test_column == fit_column.max(), read), "AUROC (.5)"
        rows.append({"what": f"{name} predicted from the noise, {what}", "value": value})
    return rows


def _round_trip(net: RadiT, cohort: Cohort) -> list[Row]:
    """Return the mean and largest round-trip error, in units of the grey scale."""
    equation, rows = bind_parents(net, cohort), []
    columns = {name: c.float() for name, c in equation.parents.items()}
    f = guided_velocity(net, columns, len(cohort), 1.0, ())
    t = Solving().start
    grain = torch.from_numpy(record_draws(cohort).normal(net.config.size[0] ** 2))
    x = 2 * radiographs(cohort).double() - 1
    s = on_lattice(t * x + (1 - t) * grain.view_as(x))
    for name in SOLVERS:
        for steps in _STEPS:
            grid = times(steps, t)
            with torch.no_grad(), stopwatch() as watch:
                test_rows = carry(name, f, solver(name).start(s), grid)
                back = carry(name, f, test_rows, grid, back=True)[:, 0]
            error = (back - s).abs() / (2 * t)
            rows.append(
                {
                    "what": f"round trip, {name}, {steps} steps",
                    "value": float(error.mean()),
                    "largest": float(error.max()),
                    "images/s": len(s) / watch.seconds,
                }
            )
    return rows


def main(quick: bool = False) -> list[Row]:
    """Return one row per measure."""
    n, n_round_trip = (32, 2) if quick else (1000, 16)
    net, cohort = load_network(), Cohort.load("phantom", n=n, seed=102)
    equation = bind_parents(net, cohort)
    u = equation.standard(equation.abduct(radiographs(cohort), record_draws(cohort)))
    head: list[Row] = [
        {"what": "standard deviation (.95 to 1.05)", "value": float(u.std())},
        {
            "what": "kurtosis (2.7 to 3.3)",
            "value": float(kurtosis(u.flatten().numpy(), fisher=False)),
        },
    ]
    return [*head, *_independence(u, cohort), *_round_trip(net, cohort.head(n_round_trip))]
