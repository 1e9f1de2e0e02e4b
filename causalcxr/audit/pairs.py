"""Pairs: records, their twins and their null twins, each pair with its verdict."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.graph.arguments import Action, action_of, check_options, names_of
from causalcxr.audit.gates import Gates, changed_by, judge
from causalcxr.audit.reader import AttributeReader
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.common.errors import AuditError
from causalcxr.graph.graph import Graph
from causalcxr.graph.interventions import BoundIntervention, Intervention
from causalcxr.scm.model_images import ModelImages
from causalcxr.scm.scm import SCM

__all__ = ["WORLDS", "Pairs", "Worlds", "make_pairs", "make_worlds"]

WORLDS = ("factual", "twin", "null", "direct")
_TWO = WORLDS[:2]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Hold records and their twins, row by row, and which of them should be believed.

    Args:
        graph: What the columns mean.
        worlds: `factual` and `twin`; where they were made, `null`, computed anew under the factual
            values, and `direct`, in which what is downstream of the intervention keeps its factual
            value and only the radiograph sees it.
        gates: A row a pair: figures, `why` it is refused and `valid`; see `causalcxr.audit.gates`.
        amplification: How attributes out of reach change, see `gates.amplification`.
        about: What was asked, JSON.
    """

    graph: Graph
    worlds: Mapping[str, Cohort]
    gates: pd.DataFrame
    amplification: pd.DataFrame
    about: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        graph: Graph,
        factual: Records,
        twin: Records,
        action: Intervention,
        *,
        null: Records | None = None,
        direct: Records | None = None,
        reader: AttributeReader | None = None,
        gates: Gates | None = None,
        flags: np.ndarray | None = None,
        plausibility: np.ndarray | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> "Pairs":
        """Judge pairs that were made anywhere, such as the phantom's true twins.

        Args:
            graph: What the columns mean.
            factual: The records, a row a pair.
            twin: Their twins, in the same order.
            action: What was done.
            null: Their null twins.
            direct: Twins under the direct effect alone.
            reader: Who reads attributes off images.
            gates: Where the gates stand.
            flags: Rows whose twin has no support in the training records.
            plausibility: P(what was set | parents) of each row.
            about: More to record.

        Raises:
            AuditError: If the rows are not those of the records.
        """
        made = {"factual": factual, "twin": twin, "null": null, "direct": direct}
        worlds = {name: as_cohort(cohort) for name, cohort in made.items() if cohort is not None}
        factual, twin, null = worlds["factual"], worlds["twin"], worlds.get("null")
        for name, cohort in worlds.items():
            if not cohort.index.equals(factual.index):
                raise AuditError(f"pairs: the rows of {name} are not those of the records")
        if not len(factual):
            raise AuditError("pairs: no record; choose others")
        bound, gates = action.bind(graph), gates or Gates()
        acted = bound.names
        if not acted:
            raise AuditError("pairs: nothing is done; give an action, such as do(sex='M')")
        reached = frozenset(acted) | graph.descendants(*acted)
        table, spread = judge(
            gates,
            graph,
            factual,
            twin,
            null,
            acted=acted,
            reached=reached,
            flags=flags,
            plausibility=plausibility,
            reader=reader,
        )
        told = {
            "action": bound.to_json(),
            "words": bound.describe(),
            "gates": asdict(gates),
            "reader": None if reader is None else reader.quality.round(4).to_dict(),
            "source": factual.source,
            "graph": graph.name,
            "graph_hash": graph.hash,
            "draws": int(factual.draws.max()) + 1,
        }
        return cls(graph, worlds, table, spread, told | dict(about or {}))

    @property
    def factual(self) -> Cohort:
        """The records, a row a pair."""
        return self.worlds["factual"]

    @property
    def twin(self) -> Cohort:
        """The twins."""
        return self.worlds["twin"]

    @property
    def valid(self) -> np.ndarray:
        """Which pairs are believed, (n,)."""
        return self.gates["valid"].to_numpy()

    @property
    def unchanged(self) -> int:
        """How many rows have already what the intervention sets, so that nothing changes."""
        return int((self.gates["known"] & ~self.gates["changed"]).sum())

    @property
    def flow(self) -> pd.DataFrame:
        """How many rows, records and patients there are, are refused (and why), and remain."""
        patients, records = self.factual.patients.to_numpy(), self.factual.records.to_numpy()
        why = self.gates["why"]
        reasons = [reason for words in why.unique() for reason in words.split(", ") if reason]
        steps = {"all": np.ones(len(why), bool)}
        for reason in dict.fromkeys(reasons):
            steps[f"refused: {reason}"] = why.str.split(", ").map(lambda w, r=reason: r in w)
        steps["believed"] = self.valid
        rows = [
            (name, int(np.sum(m)), len(set(records[m])), len(set(patients[m])))
            for name, m in ((n, np.asarray(m, dtype=bool)) for n, m in steps.items())
        ]
        return pd.DataFrame(rows, columns=["step", "pairs", "records", "patients"])

    def __len__(self) -> int:
        return len(self.gates)

    def __repr__(self) -> str:
        return f"Pairs({self.about['words']}: {self.valid.sum():,} of {len(self):,} believed)"

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the pairs to a folder; see `causalcxr.audit.pairs_folder`."""
        from causalcxr.audit.pairs_folder import save_pairs

        return save_pairs(self, Path(folder), overwrite=overwrite)

    @staticmethod
    def load(folder: str | Path) -> "Pairs":
        """Read saved pairs; see `causalcxr.audit.pairs_folder`."""
        from causalcxr.audit.pairs_folder import load_pairs

        return load_pairs(Path(folder))


def make_pairs(
    model: SCM,
    cohort: Records,
    action: Action = None,
    /,
    *,
    hold: str | Iterable[str] = (),
    draws: int | None = None,
    seed: int = 0,
    beyond_range: bool = False,
    reader: AttributeReader | None = None,
    gates: Gates | None = None,
    **values: Any,
) -> Pairs:
    """Return twins and null twins of a cohort, each pair judged.

    Args:
        model: A fitted model.
        cohort: Factual records, with or without images.
        action: What is done: `do(sex="M")`, or write `sex="M"` here directly.
        hold: Variables, or one, that keep their factual value.
        draws: Posterior draws for each record; at least three show the generator's uncertainty.
        seed: Of the draws.
        beyond_range: See `SCM.do`.
        reader: Who reads attributes off images: taught by other records, see `AttributeReader`.
        gates: Where the gates stand.
        **values: Names and values, as in `causalcxr.do`.

    Raises:
        CausalCXRError: As `SCM.counterfactual` does.

    Example:
        >>> graph = Graph.parse("variables: {Sex: {type: binary, levels: [F, M]}}")
        >>> cohort = Cohort(pd.DataFrame({"Sex": ["F", "M", "M", "F"] * 10}))
        >>> make_pairs(SCM(graph).fit(cohort), cohort, sex="M")
        Pairs(do(Sex=M): 20 of 40 believed)
    """
    check_options(model.graph, hold=hold, draws=draws, seed=seed, beyond_range=beyond_range)
    action = action_of(action, values, beyond_range)
    made = make_worlds(model, as_cohort(cohort), action, hold=hold, draws=draws, seed=seed)
    return made.judged(model.graph, action, reader, gates)


@dataclass(frozen=True, eq=False)
class Worlds:
    """Hold the worlds of a question, images not yet computed.

    Args:
        worlds: See `Pairs`.
        flags: Rows whose twin has no support in the training records.
        plausibility: P(what was set | parents) of each row, NaN where no level was set.
        about: Which model answered, and how it was asked, JSON.
    """

    worlds: Mapping[str, Cohort]
    flags: np.ndarray
    plausibility: np.ndarray
    about: Mapping[str, Any]

    def judged(
        self,
        graph: Graph,
        action: Intervention,
        reader: AttributeReader | None,
        gates: Gates | None,
    ) -> Pairs:
        """Return the pairs of these worlds, each one judged; see `Pairs.of`."""
        return Pairs.of(
            graph,
            action=action,
            **self.worlds,
            reader=reader,
            gates=gates,
            flags=self.flags,
            plausibility=self.plausibility,
            about=self.about,
        )


def make_worlds(
    model: SCM,
    cohort: Cohort,
    action: Intervention,
    *,
    hold: str | Iterable[str] = (),
    draws: int | None = None,
    seed: int = 0,
) -> Worlds:
    """Return the records, their twins, null twins and direct twins; see `make_pairs`."""
    graph, hold, many = model.graph, names_of(hold), action.repeat(draws or 1)
    bound = action.bind(graph)
    noise = model.abduct(cohort, draws=draws, seed=seed)
    below = {n for n in graph.descendants(*bound.names) if not graph[n].is_image}
    stay = (below - set(bound.names)) | {graph.find(name) for name in hold}
    worlds = {
        "factual": noise.cohort,
        "twin": model.do(many, hold=hold).predict(noise),
        "null": model.predict(noise, recompute=True),
    }
    if below:
        worlds["direct"] = model.do(many, hold=sorted(stay)).predict(noise)
    changed = changed_by(bound.names, *(worlds[w].columns(graph, beyond_range=True) for w in _TWO))
    worlds |= {name: _of_changed(worlds[name], changed) for name in worlds if name != "factual"}
    flags = model.support_of(
        cohort, action, hold=hold, seed=seed, beyond_range=action.beyond_range
    )
    about = {
        "hold": sorted(graph.find(name) for name in hold),
        "seed": seed,
        "mechanisms": {name: fitted.hash for name, fitted in model.fitted.items()},
        "trained_on": model.trained_on,
    }
    likely = _plausibility(model, worlds["factual"], worlds["twin"], bound)
    return Worlds(worlds, np.repeat(flags.flagged, draws or 1), likely, about)


def _of_changed(world: Cohort, changed: np.ndarray) -> Cohort:
    """Return a world without the images of the records that the intervention leaves unchanged.

    Their pairs are refused whatever the images show, so none is made.
    """
    images = world.images
    return world.with_images(images.only(changed)) if isinstance(images, ModelImages) else world


def _plausibility(
    model: SCM, factual: Cohort, twin: Cohort, action: BoundIntervention
) -> np.ndarray:
    """Return the least P(level | parents) over what was set, the parents as they were, (n,)."""
    graph, after = model.graph, twin.columns(model.graph, beyond_range=True)
    names = [n for n in action.names if graph[n].is_discrete and n in model.fitted]
    if not names:
        return np.full(len(factual), np.nan)
    asked = factual.with_images(None).with_columns(graph, {n: after[n] for n in names})
    return np.exp(model.log_prob(asked)[names].min(axis=1).to_numpy())
