"""Draw the pictures of docs/abduction.md, and print the numbers that its text quotes.

    python docs/figures.py [NAMES]

Deterministic: all random numbers depend on seeds and record ids. Takes 15 s on one core.
"""

import sys
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from scipy.special import ndtr
from scipy.stats import norm

import causalcxr as cx
from causalcxr import Cohort, Shift, do
from causalcxr.common.figure import Page
from causalcxr.common.files import atomic_write
from causalcxr.mechanisms.cells import push_cell
from causalcxr.scm.posterior import complete_observed
from causalcxr.scm.questions.transition_probabilities import COUPLINGS

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# These two modules are in this folder, which is not a package.
from cases import PATIENT, enumerated, expert, severity  # noqa: E402
from traps import measured  # noqa: E402

# Distinguishable with colour blindness (Okabe & Ito), and by their markers.
BLUE, RED, GREEN, AMBER, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#7A7A7A"
LEVELS = ("#DCEAF5", "#8FBCE0", "#2F6FA8")  # from light to dark, in the order of the levels
INK, PALE = "#1C2733", "#5B6875"
SIZE = 8.5


def cells() -> tuple[Page, dict[str, Any]]:
    """Draw the cells of a fitted monotone flow under both parents, and one truncated posterior."""
    model, cohort = severity()
    repeated = cohort.repeat(20)
    noise = model.abduct(repeated).values["Effusion"].numpy()
    twins = model.counterfactual(repeated, do(ventilated="is"))
    fact, twin = (c.columns(model.graph)["Effusion"] for c in (repeated, twins))
    is_small = (repeated.table["Ventilated"] == "not").to_numpy() & (fact == 1)
    shares = np.bincount(twin[is_small].astype(int), minlength=3) / is_small.sum()
    edges = {word: _edges(model, code) for word, code in (("before", 0.0), ("after", 1.0))}
    page = Page(figsize=(7.2, 4.3), layout="constrained")
    above, below = page.subplots(2, 1, sharex=True)
    grid = np.linspace(-3.2, 3.2, 801)
    low, high = edges["before"][1:3]
    mass = ndtr(high) - ndtr(low)
    inside = np.linspace(low, high, 200)
    titles = (
        "Abduct, the parents as observed: given 'small', the noise is N(0, 1) truncated to a cell",
        "Act and predict: the same noise among the cells of the twin's parents",
    )
    for axes, cuts, title in zip((above, below), edges.values(), titles, strict=True):
        for k, name in enumerate(("none", "small", "large")):
            a, b = max(cuts[k], -3.2), min(cuts[k + 1], 3.2)
            part = np.linspace(a, b, 200)
            axes.fill_between(part, norm.pdf(part), color=LEVELS[k], lw=0)
            axes.text((a + b) / 2, -0.035, name, ha="center", va="top", size=SIZE, color=INK)
        axes.plot(grid, norm.pdf(grid), color=PALE, lw=0.8)
        axes.vlines(cuts[1:3], -0.12, 0.44, color=INK, lw=1)
        axes.plot(inside, norm.pdf(inside) / mass, color=RED, lw=1.8)
        axes.vlines([low, high], 0, norm.pdf([low, high]) / mass, color=RED, lw=1.8)
        axes.set_title(title, size=SIZE + 0.5, loc="left", color=INK)
        _bare(axes)
        axes.set_ylim(-0.17, 1.32)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
    above.hist(noise[is_small], np.linspace(low, high, 31), density=True, color="#F2C9A8")
    above.text(high + 0.12, 0.98, "p(u | Effusion = small)", color=RED, size=SIZE)
    label = f"bars: the noise abducted in {is_small.sum():,} draws"
    above.text(high + 0.12, 0.82, label, color=PALE, size=SIZE)
    cut = edges["after"][2]
    for (a, b), k, words in (((low, cut), 1, "stay 'small'"), ((cut, high), 2, "become 'large'")):
        part = np.linspace(a, b, 100)
        below.fill_between(part, norm.pdf(part), norm.pdf(part) / mass, color=LEVELS[k], lw=0)
        side = {"x": a - 0.15, "ha": "right"} if k == 1 else {"x": b + 0.12, "ha": "left"}
        below.text(y=0.85, s=f"{shares[k]:.0%} {words}", size=SIZE, color=INK, **side)
    below.vlines(cut, 0, norm.pdf(cut) / mass, color=INK, lw=1)
    below.set_xlabel("exogenous noise u", size=SIZE, color=PALE)
    below.tick_params(labelsize=SIZE - 1, colors=PALE)
    before, after = (np.diff(ndtr(cuts)).round(3).tolist() for cuts in edges.values())
    numbers = {"before": before, "after": after, "twins of small": shares.round(3).tolist()}
    return page, numbers | {"draws": int(is_small.sum())}


def trap() -> tuple[Page, dict[str, Any]]:
    """Draw the results of each way to abduct a binary variable, and the true values."""
    results = measured()
    titles = ("null intervention\nreturns the fact", "P(twin = 1)", "P(twin = 1 | fact = 0)")
    page = Page(figsize=(7.2, 2.7), layout="constrained")
    panels = page.subplots(1, 3, sharey=True)
    rows = np.arange(len(results))[::-1]
    for k, (axes, title, true) in enumerate(zip(panels, titles, (1.0, 0.5, 0.375), strict=True)):
        axes.axvline(true, color=GREEN, lw=5, alpha=0.35, zorder=0)
        for row, values in zip(rows, results.values(), strict=True):
            right = abs(values[k] - true) < 0.003
            mark, colour = ("o", BLUE) if right else ("X", RED)
            axes.plot(values[k], row, mark, color=colour, ms=8)
            side = -1 if values[k] > 0.8 else 1
            axes.text(
                values[k] + 0.05 * side, row, f"{values[k]:.3f}", size=SIZE, va="center",
                ha="left" if side > 0 else "right", color=colour,
            )  # fmt: skip
        axes.set_title(title, size=SIZE, color=INK)
        axes.set_xlim(-0.06, 1.06)
        axes.set_ylim(-0.6, len(results) - 0.4)
        axes.set_yticks(rows, results, size=SIZE)
        _bare(axes)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", color="#EEEEEE", lw=0.8)
        axes.set_axisbelow(True)
    panels[1].set_xlabel(
        "green: true value;  circle: correct;  cross: incorrect", size=SIZE, color=PALE
    )
    return page, {name: np.round(values, 3).tolist() for name, values in results.items()}


def couplings() -> tuple[Page, dict[str, Any]]:
    """Draw the joint distribution of fact and twin under each coupling, and the bounds."""
    p, q = (0.6, 0.3, 0.1), (0.3, 0.3, 0.4)
    distributions = [torch.tensor([each] * 3, dtype=torch.float64) for each in (p, q)]
    levels = torch.arange(3)
    joints = {
        name: (transition(*distributions, levels) * distributions[0][0][:, None]).numpy()
        for name, transition in COUPLINGS.items()
    }
    page = Page(figsize=(7.2, 2.2), layout="constrained")
    panels = page.subplots(1, 5, sharey=True)
    for axes, (name, joint) in zip(panels, joints.items(), strict=False):
        axes.imshow(joint, cmap="Blues", vmin=0, vmax=0.45)
        for i, j in product(range(3), range(3)):
            colour = "white" if joint[i, j] > 0.28 else INK
            text = f"{joint[i, j]:.3f}".removeprefix("0")
            axes.text(j, i, text, ha="center", va="center", size=SIZE, color=colour)
        axes.set_title(name, size=SIZE + 0.5, color=INK)
    bounds = panels[-1]
    bounds.imshow(np.zeros((3, 3)), cmap="Greys", vmin=0, vmax=1)
    for i, j in product(range(3), range(3)):
        ends = max(0, p[i] + q[j] - 1), min(p[i], q[j])
        text = " – ".join(f"{end:.1f}".replace("0.", ".").replace(".0", "0") for end in ends)
        bounds.text(j, i, text, ha="center", va="center", size=SIZE, color=INK)
    bounds.set_title("any coupling", size=SIZE + 0.5, color=INK)
    names = ("none", "mild", "severe")
    for axes in panels:
        axes.set_xticks(range(3), names, size=SIZE - 1)
        axes.set_yticks(range(3), names, size=SIZE - 1)
        axes.tick_params(length=0, colors=INK)
        axes.spines[:].set_visible(False)
        axes.hlines([0.5, 1.5], -0.5, 2.5, color="white", lw=1.5)
        axes.vlines([0.5, 1.5], -0.5, 2.5, color="white", lw=1.5)
        box = {"fill": False, "edgecolor": RED, "lw": 2, "zorder": 3, "clip_on": False}
        axes.add_patch(_rectangle((1.5, -0.5), 1, 1, **box))
    panels[0].set_ylabel("fact", size=SIZE, color=PALE)
    panels[2].set_xlabel("twin", size=SIZE, color=PALE)
    return page, {name: round(float(joint[0, 2]), 4) for name, joint in joints.items()}


def effects() -> tuple[Page, dict[str, Any]]:
    """Draw the effects of do(Age + 25): total, direct and indirect, and along single paths."""
    model, patients = expert()
    patients = patients.select("Age >= 20 and Age < 80")
    older = do(age=Shift(25))
    kinds = {
        k: _change(model.effect(patients, older, kind=k)) for k in ("direct", "indirect", "total")
    }
    moved = kinds["total"]["change"] != 0
    names = [n for n in kinds["total"].index[moved] if n != "No Finding"]
    ways = [n for n in model.graph.children("Age") if n in names]
    paths = {n: _change(model.effect(patients, older, through=[("Age", n, ...)])) for n in ways}
    ends = ["Pneumothorax", "Pleural Effusion", "Support Devices", "Atelectasis", "Lung Opacity"]
    grid = np.array([[paths[way]["change"][end] for end in ends] for way in ways])
    total = kinds["total"]["change"][ends].to_numpy()
    page = Page(figsize=(7.4, 4.2), layout="constrained")
    left, right = page.subplots(1, 2, width_ratios=(1, 1.15))
    _kinds(left, names, kinds)
    _paths(right, ways, ends, np.vstack([grid, total]))
    findings = ("Pneumothorax", "Pleural Effusion", "Lung Opacity", "No Finding")
    numbers = {n: {k: round(float(kinds[k]["change"][n]), 2) for k in kinds} for n in findings}
    gap = dict(zip(ends, (grid.sum(0) - total).round(2).tolist(), strict=True))
    return page, numbers | {"records": len(patients), "paths' sum minus total": gap}


def _kinds(axes: Axes, names: list[str], kinds: Mapping[str, pd.DataFrame]) -> None:
    """Draw the three effects on each finding, except those that the graph makes zero."""
    rows = np.arange(len(names))[::-1]
    looks = {"direct": ("s", BLUE, 0.2), "indirect": ("^", AMBER, -0.2), "total": ("o", INK, 0.0)}
    for kind, (mark, colour, up) in looks.items():
        change = kinds[kind].loc[names]
        nonzero = (change["change"] != 0).to_numpy()
        axes.errorbar(
            change["change"][nonzero], (rows + up)[nonzero], xerr=1.96 * change["se"][nonzero],
            fmt=mark, color=colour, ms=4.5, lw=1.2, label=kind,
        )  # fmt: skip
    axes.axvline(0, color=PALE, lw=0.6)
    axes.set_yticks(rows, names, size=SIZE)
    axes.set_xlabel("change of P(finding), percentage points", size=SIZE, color=PALE)
    axes.legend(fontsize=SIZE, frameon=False, loc="lower right")
    axes.set_title("do(Age + 25)", size=SIZE + 0.5, color=INK, loc="left")
    axes.grid(axis="y", color="#EEEEEE", lw=0.8)
    axes.set_axisbelow(True)
    _bare(axes)


def _paths(axes: Axes, ways: list[str], ends: list[str], grid: np.ndarray) -> None:
    """Draw path-specific effects: one row per first step, and the total below."""
    axes.imshow(grid, cmap="PuOr_r", vmin=-2.6, vmax=2.6, aspect="auto")
    for i, j in product(*map(range, grid.shape)):
        text = f"{grid[i, j]:+.2f}" if grid[i, j] else "·"
        colour = "white" if abs(grid[i, j]) > 1.8 else INK
        axes.text(j, i, text, ha="center", va="center", size=SIZE - 1, color=colour)
    axes.set_yticks(range(len(grid)), [*(f"{way} → …" for way in ways), "all paths"], size=SIZE)
    short = {"Pneumothorax": "Pneumo-\nthorax", "Atelectasis": "Atelec-\ntasis"}
    heads = [short.get(end, end.replace(" ", "\n")) for end in ends]
    axes.set_xticks(range(len(ends)), heads, size=SIZE - 1)
    axes.axhline(len(ways) - 0.5, color=INK, lw=1)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("along the paths Age → …", size=SIZE + 0.5, color=INK, loc="left")


def posterior() -> tuple[Page, dict[str, Any]]:
    """Draw the posterior of the missing variables of one patient, against enumeration."""
    model, _ = expert()
    record = PATIENT.copy()
    gaps = [n for n in model.graph.order if n not in record and model.graph[n].is_discrete]
    truth = enumerated(model, record, gaps)
    table = pd.DataFrame(
        [record | dict.fromkeys(gaps)], index=pd.Index(["patient"], name="record")
    )
    completions = {
        "drawn, states enumerated": complete_observed(model, Cohort(table), draws=20_000),
        "drawn, 1,024 particles": complete_observed(model, Cohort(table), draws=20_000, states=1),
    }
    last = {n: model.graph[n].levels[-1] for n in gaps}
    shares = {
        name: {n: float((completion.cohort.table[n] == last[n]).mean()) for n in gaps}
        for name, completion in completions.items()
    }
    age = {n: record[n] for n in ("Age", "Race", "Dataset", "View")}
    blind = model.do(age).sample(20_000, seed=1).table
    before = {n: float((blind[n] == last[n]).mean()) for n in gaps}
    page = Page(figsize=(7.2, 3.6), layout="constrained")
    axes = page.subplots()
    rows = np.arange(len(gaps))[::-1]
    exact = np.array([truth[n] for n in gaps])
    axes.hlines(rows, [before[n] for n in gaps], exact, color="#D6D6D6", lw=3, zorder=0)
    axes.plot(
        [before[n] for n in gaps],
        rows,
        "|",
        color=GREY,
        ms=11,
        mew=2,
        label="given age, race, data set and view only",
    )
    axes.plot(exact, rows, "o", mfc="none", color=INK, ms=10, label="exact: sum over all states")
    for (name, results), mark, colour in zip(shares.items(), ".x", (BLUE, RED), strict=True):
        axes.plot([results[n] for n in gaps], rows, mark, color=colour, ms=6, label=name)
    axes.set_yticks(rows, [f"{n} = {last[n]}" for n in gaps], size=SIZE)
    axes.set_xlabel("probability given the observed values", size=SIZE, color=PALE)
    axes.set_xlim(-0.02, 1.02)
    axes.legend(fontsize=SIZE, frameon=False, loc="center right")
    axes.grid(axis="y", color="#EEEEEE", lw=0.8)
    axes.set_axisbelow(True)
    _bare(axes)
    worst = {
        name: round(max(abs(results[n] - truth[n]) for n in gaps), 4)
        for name, results in shares.items()
    }
    ess = {
        name: completion.report["ess"].round(0).tolist()
        for name, completion in completions.items()
    }
    return page, {"largest error": worst, "states": 2 ** len(gaps), "ess": ess} | {
        n: [round(before[n], 3), round(truth[n], 3)] for n in gaps
    }


def _edges(model: cx.SCM, code: float) -> np.ndarray:
    """Return the four edges of the cells in noise space, the outer ones infinite."""
    mechanism = model.fitted["Effusion"].mechanism
    bound = mechanism({"Ventilated": torch.full((3,), code).double()})._bind(slice(None))
    low, high = push_cell(bound, mechanism.ends(torch.arange(3).double()))
    return np.append(low.detach().numpy(), high.detach().numpy()[-1])


def _change(effect: Any) -> pd.DataFrame:
    """Return the change of P(finding) and its standard error, in percentage points."""
    table = effect.table.query("level == 'P'").set_index("variable")
    return 100 * table[["change", "se"]]


def _rectangle(*args: Any, **style: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(*args, **style)


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color("#9AA5B1")
    axes.tick_params(axis="x", labelsize=SIZE - 1, colors=PALE)


FIGURES: dict[str, Callable[[], tuple[Page, dict[str, Any]]]] = {
    "cells": cells,
    "trap": trap,
    "couplings": couplings,
    "effects": effects,
    "posterior": posterior,
}


def main(names: list[str]) -> None:
    """Draw some of the pictures, or all."""
    for name in names or FIGURES:
        page, numbers = FIGURES[name]()
        path = atomic_write(HERE / f"abduction-{name}.png", page.png())
        print(f"{path.name}: {numbers}")


if __name__ == "__main__":
    main(sys.argv[1:])
