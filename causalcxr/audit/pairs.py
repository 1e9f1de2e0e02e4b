"""Pairs: records, their twins and their null twins, each pair with its quality checks.

In a folder, written as `ResultFolder` writes:

    factual/ twin/ null/ direct/    one cohort for each world, as `Cohort.save` writes them
    pairs.csv, amplification.csv    the checks of each pair; changes in non-descendants
    graph.yaml, manifest.json       what the columns mean; the question
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.audit.attribute_reader import AttributeReader
from causalcxr.audit.cross_fitted_reader import CrossFittedReader
from causalcxr.audit.quality_checks import CHECKS, Gates, check_pairs
from causalcxr.audit.reader_quality import reader_record, unreadable
from causalcxr.cohort import saved, saved_reader
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.common.errors import AuditError
from causalcxr.common.files import atomic_write
from causalcxr.common.progress import progress
from causalcxr.common.result_digests import Digests
from causalcxr.common.result_folder import Draft, ResultFolder
from causalcxr.common.spreadsheet import csv_text, unmarked_table
from causalcxr.graph.graph import Graph
from causalcxr.graph.interventions import Intervention

__all__ = ["WORLDS", "Pairs", "pairs_result", "write_checks", "write_worlds"]

WORLDS = ("factual", "twin", "null", "direct")
SCHEMA = 1
_KIND = "causalcxr pairs"
_MANIFEST = "manifest.json"


@dataclass(frozen=True, eq=False)
class Pairs:
    """Hold records and their twins, row by row, and which pairs are accepted.

    Args:
        graph: Graph of the columns.
        worlds: `factual` and `twin`; if they were computed, `null`, computed anew under the
            factual values, and `direct`, in which all descendants except the radiograph keep
            their factual values.
        gates: The quality checks, a row a pair: figures, `why` it is rejected, and `valid`; see
            `causalcxr.audit.quality_checks`.
        amplification: How non-descendants change, see `quality_checks.amplification`.
        about: Settings and origin, JSON.
    """

    graph: Graph
    worlds: Mapping[str, Cohort]
    gates: pd.DataFrame
    amplification: pd.DataFrame
    about: Mapping[str, Any]

    @classmethod
    def from_cohorts(
        cls,
        graph: Graph,
        factual: Records,
        twin: Records,
        action: Intervention,
        *,
        null: Records | None = None,
        direct: Records | None = None,
        reader: AttributeReader | CrossFittedReader | None = None,
        gates: Gates | None = None,
        flags: np.ndarray | None = None,
        plausibility: np.ndarray | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> "Pairs":
        """Check pairs from any source, such as the phantom's true twins.

        Args:
            graph: Graph of the columns.
            factual: The records, a row a pair.
            twin: Their twins, in the same order.
            action: The intervention.
            null: Their null twins.
            direct: Their direct twins.
            reader: Reads attributes from images.
            gates: Limits of the quality checks.
            flags: Rows whose twin has no support in the training records.
            plausibility: P(what was set | parents) of each row.
            about: More to record.

        Raises:
            AuditError: If rows differ from those of the records, or there are none.
        """
        given = {"factual": factual, "twin": twin, "null": null, "direct": direct}
        worlds = {name: as_cohort(cohort) for name, cohort in given.items() if cohort is not None}
        # The same records in the same order in each world.
        factual, twin, null = worlds["factual"], worlds["twin"], worlds.get("null")
        for name, cohort in worlds.items():
            if not cohort.index.equals(factual.index):
                raise AuditError(
                    f"pairs: the rows of {name} are not those of the records; give the same index"
                )
        if not len(factual):
            raise AuditError("pairs: there are no records; select others")
        # What was set, and what may follow from it.
        bound, gates = action.bind(graph), gates or Gates()
        acted = bound.names
        if not acted:
            raise AuditError("pairs: the intervention sets nothing; give one, such as do(sex='M')")
        reached = frozenset(acted) | graph.descendants(*acted)
        table, spread = check_pairs(
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
        settings = {
            "action": bound.to_json(),
            "words": bound.describe(),
            "gates": asdict(gates),
            **reader_record(reader),
            "not_checked": [] if reader is None else unreadable(reader, gates.reader),
            "source": factual.source,
            "graph": graph.name,
            "graph_hash": graph.hash,
            "draws": int(factual.draws.max()) + 1,
        }
        return cls(graph, worlds, table, spread, settings | dict(about or {}))

    of = from_cohorts  # its name in version 0.1.0

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
        """Which pairs are accepted, (n,)."""
        return self.gates["valid"].to_numpy()

    @property
    def unchanged(self) -> int:
        """Number of rows that already have what the intervention sets, so that nothing changes."""
        return int((self.gates["known"] & ~self.gates["changed"]).sum())

    @property
    def flow(self) -> pd.DataFrame:
        """Number of pairs, records and patients: all, rejected by reason, and accepted."""
        patients, records = self.factual.patients.to_numpy(), self.factual.records.to_numpy()
        why = self.gates["why"]
        reasons = [reason for words in why.unique() for reason in words.split(", ") if reason]
        steps = {"all": np.ones(len(why), bool)}
        for reason in dict.fromkeys(reasons):
            steps[f"rejected: {reason}"] = why.str.split(", ").map(lambda w, r=reason: r in w)
        steps["accepted"] = self.valid
        rows = [
            (name, int(np.sum(m)), len(set(records[m])), len(set(patients[m])))
            for name, m in ((n, np.asarray(m, dtype=bool)) for n, m in steps.items())
        ]
        return pd.DataFrame(rows, columns=["step", "pairs", "records", "patients"])

    def __len__(self) -> int:
        return len(self.gates)

    def __repr__(self) -> str:
        return f"Pairs({self.about['words']}: {self.valid.sum():,} of {len(self):,} accepted)"

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the pairs to a folder.

        Args:
            folder: A new folder.
            overwrite: Replace the pairs in the folder, even if they are the same.

        Raises:
            AuditError: If the folder holds another result.
            CohortError: If a world cannot be written.
        """
        folder = Path(folder)
        with pairs_result(folder, None, overwrite=overwrite).writing() as draft:
            write_worlds(draft.place, self.worlds, self.about)
            write_checks(self, draft)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "Pairs":
        """Read saved pairs.

        Raises:
            AuditError: If there are no pairs, or they are damaged or of another version.
        """
        folder = Path(folder)
        try:
            about = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
            if (about.pop("kind"), about.pop("schema")) != (_KIND, SCHEMA):
                raise AuditError(f"{folder}: holds no pairs of version {SCHEMA}; write them again")
            # Verify the files before anything is read from them.
            digests = Digests(folder, about, AuditError)
            about = {k: v for k, v in about.items() if k not in ("identity", "files_sha256")}
            for name in digests:
                if "/" not in name:  # each world is verified when it is loaded
                    digests.check(name)
            worlds = {name: Cohort.load(folder / name) for name in about.pop("worlds")}
            # Dtypes are set: an empty column would be read as numbers.
            gates = pd.read_csv(
                folder / "pairs.csv", dtype={"why": str, **dict.fromkeys(CHECKS, float)}
            )
            gates = gates[["changed", "known", *CHECKS, "why", "valid"]].fillna({"why": ""})
            gates.index = worlds["factual"].index
            spread = unmarked_table(
                pd.read_csv(folder / "amplification.csv", keep_default_na=False)
            )
            graph = Graph.load(folder / "graph.yaml")
        except AuditError:
            raise
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise AuditError(
                f"{folder}: holds no complete pairs ({error}); write them with `causalcxr pairs`"
            ) from None
        return cls(graph, worlds, gates, spread, about)


def pairs_result(
    folder: Path, identity: Mapping[str, Any] | None, *, overwrite: bool
) -> ResultFolder:
    """Return the folder of saved pairs; its `check` tests early whether it can be written."""

    def unfinished(path: Path) -> bool:  # written by version 0.1.0
        return (path / ".pairs").is_file()

    return ResultFolder(
        folder, _KIND, "pairs", identity, overwrite, AuditError, recognises=unfinished
    )


def write_worlds(place: Path, worlds: Mapping[str, Cohort], about: Mapping[str, Any]) -> None:
    """Write each world, completely or not at all; worlds that are complete already stay."""
    settings = json.loads(json.dumps(about))
    for name, cohort in progress(list(worlds.items()), "Making pairs", "worlds"):
        if not saved_reader.recognises(place / name):
            images = "png" if cohort.has_images else None
            saved.save(cohort, place / name, images, {"world": name, **settings})


def write_checks(pairs: Pairs, draft: Draft) -> None:
    """Write the quality checks of each pair, the graph and, last, the manifest."""
    place, spread = draft.place, pairs.amplification
    if not spread.shape[1]:
        spread = pd.DataFrame(columns=["variable", "level", "mean", "absolute", "se", "patients"])
    atomic_write(place / "pairs.csv", csv_text(pairs.gates))
    atomic_write(place / "amplification.csv", csv_text(spread, index=False))
    atomic_write(place / "graph.yaml", pairs.graph.to_yaml())
    draft.finish({"schema": SCHEMA, "worlds": list(pairs.worlds), **pairs.about})
