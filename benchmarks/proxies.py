"""Which proxy tells how far a counterfactual is from the truth? Rank correlations over models.

    python -m benchmarks proxies          (after `image_peers`, whose weights it reads)

The models are those of `image_peers` after 25, 50 and 100 % of their training, and the bundled
weights, plain, guided and anew. Each answers the same questions on held-out phantoms; its error to
the true twins over a copy's is ranked against every proxy. Told: Spearman's correlation over all
models with its 95 % bootstrap interval over models, and over those alone that abduct; the sign is
such that +1 is a proxy that ranks as the truth does. Answers are kept in `runs/peers/answers`.
Draws `runs/proxies.png`.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from benchmarks import Row
from benchmarks._twins import network
from benchmarks.peers.families import solving, weights_of
from benchmarks.peers.judging import Judge
from benchmarks.peers.models import WAYS, Anew, Model, model
from causalcxr.common.errors import MechanismError
from causalcxr.mechanisms.image_equation import ImageEquation
from causalcxr.radit.weights import resolve

__all__ = ["main"]

_ASKED = ("do(sex=M)", "do(view=PA), of AP", "do(cardiomegaly=N)")
_SHARES = (0.25, 0.5, 1.0)  # of the training
# Measure -> +1 where less is better, -1 where more is.
_PROXIES = {
    "composition, 1": 1,
    "reversibility": 1,
    "effectiveness": -1,
    "amplification": 1,
    "change": 1,
    "change beside the true one": 1,
    "identity": -1,
    "Frechet": 1,
    "kernel": 1,
    "outside": 1,
}
_DRAWS = 2000


def _bundled(guidance: float = 1.0, anew: bool = False) -> Model:
    net = network()

    def bound(parents):  # noqa: ANN001, ANN202
        seen = {name: parents[name] for name in net.conditioner.names}
        equation = ImageEquation(net, seen, solving(seen, guidance))
        return Anew(equation) if anew else equation

    return bound


def _models(folder: Path) -> dict[str, tuple[partial, Path]]:
    """Return what makes each model, and the file of its weights."""
    phantom = resolve("phantom", 64)
    out = {
        f"{name}, {100 * share:.0f} %": (
            partial(model, name, folder, share),
            weights_of(way.family, share, folder),
        )
        for name, way in WAYS.items()
        for share in _SHARES
        if share == 1 or not {"guided", "threshold"} & set(name.split())
    }
    return out | {
        "bundled": (partial(_bundled), phantom),
        "bundled, guided 1.5": (partial(_bundled, 1.5), phantom),
        "bundled, anew": (partial(_bundled, anew=True), phantom),
    }


def main(quick: bool = False) -> list[Row]:
    """Return a row a proxy."""
    folder = Path("runs/peers-quick" if quick else "runs/peers")
    if not any(folder.glob("*.json")):
        return [{"proxy": "skipped: no weights; run python -m benchmarks image_peers first"}]
    n, asked = (2, _ASKED[:1]) if quick else (8, _ASKED)
    judge, rows = Judge.of(n, taught=300 if quick else 4000, names=asked, cycles=(1,)), {}
    made = _models(folder)
    for name in list(made)[::4] if quick else made:
        try:
            found = judge.kept(f"{name}, proxies", *made[name], folder / "answers")
        except MechanismError:  # an early flow whose solver does not converge gives no image
            continue
        rows[name] = judge.summary(name, found)
    table = pd.DataFrame(rows.values(), index=rows)
    table["change beside the true one"] = table["change"].sub(1).abs()
    _drawn(table, folder.parent / f"proxies{'-quick' if quick else ''}.png")
    told, abducts = [], ~table.index.str.contains("anew")
    for proxy, sign in _PROXIES.items():
        low, high = _interval(sign * table[proxy], table.truth)
        told.append(
            {
                "proxy": proxy,
                "better": "less" if sign > 0 else "more",
                "all": _rank(sign * table[proxy], table.truth),
                "95 %": f"{low:.2f} to {high:.2f}",
                "that abduct": _rank(sign * table[proxy][abducts], table.truth[abducts]),
                "models": len(table),
                "of them abduct": int(abducts.sum()),
            }
        )
    return told


def _rank(proxy: pd.Series, truth: pd.Series) -> float:
    if proxy.nunique() < 2 or truth.nunique() < 2:
        return float("nan")
    return float(spearmanr(proxy, truth)[0])


def _interval(proxy: pd.Series, truth: pd.Series) -> tuple[float, float]:
    generator, found = np.random.default_rng(0), []
    for rows in generator.integers(len(proxy), size=(_DRAWS, len(proxy))):
        found.append(_rank(proxy.iloc[rows], truth.iloc[rows]))
    if np.isnan(found).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(found, [0.025, 0.975])
    return float(low), float(high)


def _drawn(table: pd.DataFrame, path: Path) -> None:
    """Draw each proxy against the truth, one dot a model, one colour a family."""
    figure = Figure(figsize=(13, 5.4), layout="constrained")
    families = table.index.str.replace(r", \d+ %$", "", regex=True)
    for axes, proxy in zip(figure.subplots(2, 5).flat, _PROXIES, strict=True):
        for k, family in enumerate(dict.fromkeys(families)):
            mine = table[families == family]
            shown = {"color": f"C{k}", "label": family, "s": 18}
            axes.scatter(mine[proxy], mine.truth, **shown)
        axes.set(title=proxy, yscale="log")
        axes.axhline(1, color="0.6", linewidth=0.8)
    figure.supylabel("error to the true twin over a copy's")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=110)
