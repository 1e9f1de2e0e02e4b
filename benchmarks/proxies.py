"""Which proxy ranks models as their true error does? Rank correlations over models.

    python -m benchmarks proxies          (after `image_peers`, whose weights it reads)

The models are those of `image_peers` after 25, 50 and 100 % of their training, and the bundled
weights: plain, guided, and without abduction. All are applied to the same interventions on
held-out phantoms, and their error relative to a copy's is compared with each proxy. The table has
Spearman's correlation over all models with its 95 % bootstrap interval over models, and over the
models that abduct; the sign is such that +1 is a proxy with the ranking of the truth. Results are
saved in `runs/peers/results`. Draws `runs/proxies.png`.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from benchmarks import Row
from benchmarks._image_twins import load_network
from benchmarks.peers.evaluation import Evaluation
from benchmarks.peers.families import solving, weights_of
from benchmarks.peers.models import VARIANTS, Model, WithoutAbduction, model
from causalcxr.common.errors import MechanismError
from causalcxr.mechanisms.image_equation import ImageEquation
from causalcxr.radit.weights import resolve

__all__ = ["main"]

_QUESTIONS = ("do(sex=M)", "do(view=PA), of AP", "do(cardiomegaly=N)")
_SHARES = (0.25, 0.5, 1.0)  # of the training
# Measure -> +1 if lower is better, -1 if higher is better.
_PROXIES = {
    "composition, 1": 1,
    "reversibility": 1,
    "effectiveness": -1,
    "amplification": 1,
    "change": 1,
    "change, distance from the true one": 1,
    "identity": -1,
    "Frechet": 1,
    "kernel": 1,
    "outside": 1,
}
_DRAWS = 2000


def _bundled(guidance: float = 1.0, without_abduction: bool = False) -> Model:
    net = load_network()

    def bind(parents):  # noqa: ANN001, ANN202
        columns = {name: parents[name] for name in net.conditioner.names}
        equation = ImageEquation(net, columns, solving(columns, guidance))
        return WithoutAbduction(equation) if without_abduction else equation

    return bind


def _models(folder: Path) -> dict[str, tuple[partial, Path]]:
    """Return a function that loads each model, and the file of its weights."""
    phantom = resolve("phantom", 64)
    out = {
        f"{name}, {100 * share:.0f} %": (
            partial(model, name, folder, share),
            weights_of(variant.family, share, folder),
        )
        for name, variant in VARIANTS.items()
        for share in _SHARES
        if share == 1 or not {"guided", "threshold"} & set(name.split())
    }
    return out | {
        "bundled": (partial(_bundled), phantom),
        "bundled, guided 1.5": (partial(_bundled, 1.5), phantom),
        "bundled, without abduction": (partial(_bundled, without_abduction=True), phantom),
    }


def main(quick: bool = False) -> list[Row]:
    """Return one row per proxy."""
    folder = Path("runs/peers-quick" if quick else "runs/peers")
    if not any(folder.glob("*.json")):
        return [{"proxy": "skipped: no weights; first run python -m benchmarks image_peers"}]
    n, questions = (2, _QUESTIONS[:1]) if quick else (8, _QUESTIONS)
    evaluation, rows = (
        Evaluation.on_phantoms(n, n_training=300 if quick else 4000, names=questions, cycles=(1,)),
        {},
    )
    models = _models(folder)
    for name in list(models)[::4] if quick else models:
        try:
            results = evaluation.cached(f"{name}, proxies", *models[name], folder / "results")
        except MechanismError:  # the solver of a flow after little training may not converge
            continue
        rows[name] = evaluation.summary(name, results)
    table = pd.DataFrame(rows.values(), index=rows)
    table["change, distance from the true one"] = table["change"].sub(1).abs()
    _draw(table, folder.parent / f"proxies{'-quick' if quick else ''}.png")
    rows_of_proxies, abducting = [], ~table.index.str.contains("without abduction")
    for proxy, sign in _PROXIES.items():
        low, high = _interval(sign * table[proxy], table.truth)
        rows_of_proxies.append(
            {
                "proxy": proxy,
                "better": "lower" if sign > 0 else "higher",
                "all": _rank(sign * table[proxy], table.truth),
                "95 %": f"{low:.2f} to {high:.2f}",
                "that abduct": _rank(sign * table[proxy][abducting], table.truth[abducting]),
                "models": len(table),
                "models that abduct": int(abducting.sum()),
            }
        )
    return rows_of_proxies


def _rank(proxy: pd.Series, truth: pd.Series) -> float:
    if proxy.nunique() < 2 or truth.nunique() < 2:
        return float("nan")
    return float(spearmanr(proxy, truth)[0])


def _interval(proxy: pd.Series, truth: pd.Series) -> tuple[float, float]:
    generator, results = np.random.default_rng(0), []
    for rows in generator.integers(len(proxy), size=(_DRAWS, len(proxy))):
        results.append(_rank(proxy.iloc[rows], truth.iloc[rows]))
    if np.isnan(results).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(results, [0.025, 0.975])
    return float(low), float(high)


def _draw(table: pd.DataFrame, path: Path) -> None:
    """Draw each proxy against the true error: one dot per model, one colour per family."""
    figure = Figure(figsize=(13, 5.4), layout="constrained")
    families = table.index.str.replace(r", \d+ %$", "", regex=True)
    for axes, proxy in zip(figure.subplots(2, 5).flat, _PROXIES, strict=True):
        for k, family in enumerate(dict.fromkeys(families)):
            points = table[families == family]
            style = {"color": f"C{k}", "label": family, "s": 18}
            axes.scatter(points[proxy], points.truth, **style)
        axes.set(title=proxy, yscale="log")
        axes.axhline(1, color="0.6", linewidth=0.8)
    figure.supylabel("error relative to a copy's")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=110)
