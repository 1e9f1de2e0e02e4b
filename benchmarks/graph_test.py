"""Is the test of a graph calibrated, and what does it detect? Random worlds with known graphs.

    python -m benchmarks.graph_test --worlds 40
    python -m benchmarks.graph_test --nih shared/data/nih

Each world has eight variables of mixed types with nonlinear, skewed and heteroscedastic equations.
Type I error: the implied independences of the true graph. Power: the true graph without one of its
edges, and with one edge too many.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr import Cohort, Graph, Variable

__all__ = ["World", "main"]

_TYPES = ("continuous", "binary", "continuous", "ordinal", "binary", "categorical", "continuous",
          "binary")  # fmt: skip
_LEVELS = {"binary": ("N", "P"), "ordinal": ("0", "1", "2"), "categorical": ("a", "b", "c", "d")}
_PER_PATIENT = 4  # records of a patient, in the clustered worlds
_MISSING = 0.1  # of each variable, in the worlds with missing values


@dataclass(frozen=True)
class World:
    """A random graph and equations.

    Args:
        seed: Of the graph and of the equations.
        strength: The coefficient of a parent: standard deviations, or log-odds.
    """

    seed: int
    strength: float

    @property
    def graph(self) -> Graph:
        """The true graph."""
        rng = np.random.default_rng(self.seed)
        names = [f"V{k}" for k in range(len(_TYPES))]
        order = rng.permutation(len(names))
        variables = []
        for k, name in enumerate(names):
            kind = _TYPES[order[k]]
            parents = [each for each in names[:k] if rng.random() < 0.35][:4]
            levels = {"levels": _LEVELS[kind]} if kind in _LEVELS else {}
            variables.append(Variable(name, kind, parents=parents, **levels))
        return Graph(variables)

    def cohort(self, n: int, kind: str = "independent", draw: int = 0) -> Cohort:
        """Return n records: independent, clustered by patient, or with missing values."""
        graph, form = self.graph, np.random.default_rng((self.seed, 1))
        rng = np.random.default_rng((self.seed, 2, draw))
        patients = np.arange(n) // (_PER_PATIENT if kind == "clustered" else 1)
        columns: dict[str, np.ndarray] = {}
        for name in graph.order:
            variable = graph[name]
            scores = _scores(variable, columns, n, form, self.strength)
            shared = rng.normal(size=n)[patients] if kind == "clustered" else 0.0
            columns[name] = _values(variable, scores, shared, form, rng)
        if kind == "missing":
            # The first variable is complete and decides how often the others are missing.
            first = next(iter(columns))
            often = columns[first] > np.median(columns[first])
            for name in columns:
                gone = rng.random(n) < np.where(often, 1.5, 0.5) * _MISSING
                columns[name] = np.where(gone & (name != first), np.nan, columns[name])
        return Cohort.from_columns(graph, columns, range(n), patients=patients)


def _scores(
    variable: Variable, columns: dict, n: int, form: np.random.Generator, strength: float
) -> np.ndarray:
    """Return the score of each level, or the mean and log scale of a number, shape (n, k)."""
    k = len(variable.levels) - 1 if variable.is_discrete else 2
    total = np.zeros((n, k))
    for parent in variable.parents:
        values = columns[parent]
        values = (values - values.mean()) / (values.std() + 1e-9)
        shape = (values, np.tanh(2 * values), (values**2 - 1) / 2 + values / 2)
        weights = form.choice([-1, 1], k) * strength * np.r_[1.0, form.uniform(-0.5, 0.5, k - 1)]
        term = shape[form.integers(3)]
        # An interaction with what the parents before contribute.
        total = total + term[:, None] * weights + 0.2 * np.tanh(total) * term[:, None]
    return total


def _values(
    variable: Variable,
    scores: np.ndarray,
    shared: np.ndarray | float,
    form: np.random.Generator,
    rng: np.random.Generator,
) -> np.ndarray:
    n = len(scores)
    if variable.is_discrete:
        k = len(variable.levels)
        offset = form.uniform(-1.5, 0.5, k - 1)
        latent = np.zeros((n, k))
        latent[:, 1:] = offset + scores + np.asarray(shared).reshape(-1, 1)
        return (latent + rng.gumbel(size=(n, k))).argmax(axis=1).astype(np.float64)
    noise = rng.gamma(2, 1, n) - 2 if form.random() < 0.5 else 1.4 * rng.normal(size=n)
    return scores[:, 0] + noise * np.exp(0.4 * np.tanh(scores[:, 1])) / 1.4 + shared


def calibration(
    worlds: int, kinds: tuple[str, ...], sizes: tuple[int, ...], permutations: int
) -> pd.DataFrame:
    """Return rejections of true independences, by kind of records and their number."""
    rows = []
    for kind in kinds:
        for n in sizes:
            begin, p, any_false, as_good, untested = time.time(), [], [], [], []
            for seed in range(worlds):
                world = World(seed, (0.3, 0.6, 1.0)[seed % 3])
                cohort = world.cohort(n, kind)
                result = world.graph.test(cohort, least=0.0, edits=0, permutations=permutations)
                table = result.table
                p += table["p"].dropna().tolist()
                untested.append((table["verdict"] == "untested").mean())
                any_false.append(len(result.violated) > 0)
                as_good.append(result.as_good)
            p_values = np.array(p)
            rows.append(
                {
                    "records": kind,
                    "n": n,
                    "tests": len(p),
                    "p < .05": (p_values < 0.05).mean(),
                    "p < .01": (p_values < 0.01).mean(),
                    "any violated (FDR .05)": np.mean(any_false),
                    "untested": np.mean(untested),
                    "permuted graphs as good": np.mean(as_good),
                    "s a graph": (time.time() - begin) / worlds,
                }
            )
            print(pd.DataFrame(rows[-1:]).to_string(header=len(rows) == 1), flush=True)
    return pd.DataFrame(rows)


def power(worlds: int, sizes: tuple[int, ...]) -> pd.DataFrame:
    """Return how often an edge that is missing, or one too many, is found."""
    rows = []
    for strength in (0.3, 0.6, 1.0):
        for n in sizes:
            found: dict[str, list[bool]] = {}
            for seed in range(worlds):
                for name, value in _edited(World(seed, strength), n).items():
                    found.setdefault(name, []).append(value)
            shares = {name: float(np.mean(values)) for name, values in found.items()}
            rows.append({"strength": strength, "n": n, **shares})
            print(pd.DataFrame(rows[-1:]).to_string(header=len(rows) == 1), flush=True)
    return pd.DataFrame(rows)


def _edited(world: World, n: int) -> dict[str, bool]:
    """Test a graph with an edge less, and one with an edge too many."""
    graph, cohort = world.graph, world.cohort(n)
    rng = np.random.default_rng((world.seed, 3))
    edges = list(graph.edges)
    missing = edges[rng.integers(len(edges))]
    order = list(graph.order)
    absent = [
        (one, other)
        for at, other in enumerate(order)
        for one in order[:at]
        if (one, other) not in edges
    ]
    extra = absent[rng.integers(len(absent))]
    less = graph.remove_edge(*missing).test(cohort, permutations=0)
    more = graph.add_edge(*extra).test(cohort, permutations=0, edits=0).edges
    first = less.additions.head(1)[["parent", "child"]].apply(frozenset, axis=1).tolist()
    verdict = more.set_index(["parent", "child"])["verdict"]
    true = verdict.drop(extra)
    return {
        "violated": len(less.violated) > 0,
        "first addition is the missing edge": first == [frozenset(missing)],
        "extra edge not needed": verdict[extra] == "not needed",
        "extra edge needed": verdict[extra] == "needed",
        "true edges needed": (true == "needed").mean(),
        "true edges not needed": (true == "not needed").mean(),
    }


def nih(folder: Path, permutations: int, out: Path) -> None:
    """Test the graph of NIH ChestX-ray14 on the real table."""
    cohort = Cohort.load(folder).with_images(None)
    begin, begin_work = time.time(), time.process_time()
    result = Graph.load("nih").test(cohort, permutations=permutations)
    seconds = f"{time.time() - begin:.1f} s, {time.process_time() - begin_work:.1f} s of processor"
    print(f"{result}\n{seconds}\n{result.edges.to_string()}\n{result.permuted.to_string()}")
    result.save(out, overwrite=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=40)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 2000, 10_000])
    parser.add_argument("--nih", type=Path)
    parser.add_argument("--permutations", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/graph-test"))
    asked = parser.parse_args()
    if asked.nih is not None:
        if not asked.nih.is_dir():
            print(f"skipped: {asked.nih} is missing")
            return
        nih(asked.nih, asked.permutations, asked.out)
        return
    sizes = tuple(asked.sizes)
    kinds = ("independent", "clustered", "missing")
    calibration(asked.worlds, kinds, sizes, asked.permutations)
    power(asked.worlds, sizes)


if __name__ == "__main__":
    main()
