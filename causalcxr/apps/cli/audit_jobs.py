"""What the verbs of the audit do: load, ask, write, tell on the screen."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from causalcxr.apps.cli.answer_screen import console, show
from causalcxr.apps.cli.jobs import identity_of
from causalcxr.audit.attribute_reader import AttributeReader
from causalcxr.audit.audit_result import audit_folder
from causalcxr.audit.auditing import audit_pairs
from causalcxr.audit.classifiers import Classifier, as_classifier
from causalcxr.audit.making_pairs import make_worlds, write_pairs
from causalcxr.audit.model_evaluation import evaluate
from causalcxr.audit.model_evaluation_result import evaluation_folder
from causalcxr.audit.pairs import Pairs, pairs_result
from causalcxr.audit.shifts import InterventionShift, PopulationShift, ReweightingShift
from causalcxr.audit.stress_result import stress_folder
from causalcxr.audit.stressing import stress
from causalcxr.cohort.fingerprints import fingerprint
from causalcxr.cohort.selection import Selection, load_cohort
from causalcxr.common.errors import AuditError, ClassifierError, InterventionError
from causalcxr.common.progress import Progress, resumable
from causalcxr.graph.interventions import parse
from causalcxr.scm.scm import SCM

__all__ = [
    "Strains",
    "audit_job",
    "evaluate_job",
    "load_classifier",
    "pairs_job",
    "stress_job",
]


def pairs_job(
    model: Path,
    records: Selection,
    do: Sequence[str],
    out: Path,
    *,
    hold: Sequence[str] = (),
    draws: int = 1,
    reader: str = "",
    beyond_range: bool = False,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Make pairs, judge them, and write a folder.

    Raises:
        CausalCXRError: If anything asked for cannot be had.
    """
    if not do:
        raise InterventionError("pairs: nothing to do; give --do NAME=VALUE, such as --do sex=M")
    action, fitted = parse(do, beyond_range=beyond_range), SCM.load(model)
    action.bind(fitted.graph)
    cohort = records.load()
    teachers = load_cohort(reader).with_images_only() if reader else None
    identity = {
        "action": action.bind(fitted.graph).to_json(),
        "hold": sorted(fitted.graph.find(name) for name in hold),
        "draws": draws,
        "seed": seed,
        "model": identity_of(fitted),
        "cohort": fingerprint(cohort),
        "reader": None if teachers is None else fingerprint(teachers),
    }
    pairs_result(out, identity, overwrite=overwrite).check()
    with Progress("Teaching a reader of attributes"):
        taught = None if teachers is None else AttributeReader.fit(teachers, fitted.graph)
    if cohort.has_images:
        cohort = cohort.with_images_only()
    made = make_worlds(
        fitted, cohort, action, hold=hold, draws=draws if draws != 1 else None, seed=seed
    )
    with resumable(f"the images so far are in {out}"):
        pairs = write_pairs(
            made, fitted.graph, action, out, reader=taught, identity=identity, overwrite=overwrite
        )
    if taught is not None:
        quality = taught.quality
        show(
            "How well the reader reads records it has not seen (AUROC; correlation of numbers)",
            [{"attribute": n, "quality": f"{q:.3f}"} for n, q in quality.items()],
        )
    show(f"Pairs under {action.describe()}", _lines(pairs.flow))
    if pairs.unchanged and cohort.has_images:
        console().print(f"{pairs.unchanged:,} unchanged: no image was made of their twins")
    if taught is None and cohort.has_images:
        console().print(
            "No reader, so nobody looked whether twins show what was set; give --reader COHORT."
        )
    console().print(f"{out}: {', '.join(pairs.worlds)}, pairs.csv, manifest.json", markup=False)


def audit_job(
    pairs: Path,
    classifier: str,
    out: Path,
    *,
    label: str = "",
    by: Sequence[str] = (),
    threshold: str = "",
    validation: str = "",
    primaries: Sequence[str] | None = None,
    outputs: str = "probability",
    bootstrap: int = 2000,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Audit a classifier on saved pairs, and write a folder with the report.

    Raises:
        CausalCXRError: If anything asked for cannot be had.
    """
    audit_folder(out).check_foreign()
    made = Pairs.load(pairs)
    scorer = load_classifier(classifier, target=label or None, outputs=outputs)
    given = load_cohort(validation) if validation else None
    options: dict[str, Any] = {} if primaries is None else {"primaries": tuple(primaries)}
    with Progress("Auditing"):
        found = audit_pairs(
            scorer,
            made,
            label=label or None,
            by=tuple(by),
            threshold=threshold or None,
            validation=given,
            bootstrap=bootstrap,
            seed=seed,
            **options,
        )
        found.save(out, overwrite=overwrite)
    show(
        "Effects on the score",
        _lines(found.effects[["group", "kind", "mean", "low", "high", "p"]]),
    )
    for sentence in found.sentences:
        console().print(sentence, markup=False, highlight=False)
    console().print(
        f"{out / 'report.html'}: the report; tables and audit.json beside it", markup=False
    )


@dataclass(frozen=True)
class Strains:
    """What a stress test asks on the command line.

    Args:
        do: Interventions that are shifts.
        share: Shares that are shifts, `NAME=LEVEL:SHARE`.
        dose: `NAME=V,V,...`, or nothing.
        search: Columns for the worst subgroup.
        flip: Interventions that may flip decisions.
        by: Columns of groups.
    """

    do: Sequence[str] = ()
    share: Sequence[str] = ()
    dose: str = ""
    search: Sequence[str] = ()
    flip: Sequence[str] = ()
    by: Sequence[str] = ()

    def shifts(self, model: SCM) -> list[PopulationShift]:
        """Return the shifts.

        Raises:
            AuditError: If a share is malformed.
        """
        found: list[PopulationShift] = []
        for word in self.share:
            name, _, rest = word.partition("=")
            level, _, share = rest.rpartition(":")
            try:
                shares = {model.graph.find(name.strip()): {level.strip(): float(share)}}
            except ValueError:
                raise AuditError(
                    f"share {word!r}: write NAME=LEVEL:SHARE, such as Sex=F:.8"
                ) from None
            found.append(ReweightingShift(word, shares))
        return [
            *found,
            *(InterventionShift(parse([word]).describe(), parse([word])) for word in self.do),
        ]

    def doses(self) -> tuple[str, list[float]] | None:
        """Return the variable and values of the dose-response.

        Raises:
            AuditError: If it is malformed.
        """
        if not self.dose:
            return None
        name, _, values = self.dose.partition("=")
        try:
            return name.strip(), [float(value) for value in values.split(",")]
        except ValueError:
            raise AuditError(f"dose {self.dose!r}: write NAME=V,V, such as age=30,50") from None


def stress_job(
    model: Path,
    records: Selection,
    classifier: str,
    out: Path,
    strains: Strains,
    *,
    label: str,
    threshold: str = "youden",
    validation: str = "",
    outputs: str = "probability",
    bootstrap: int = 2000,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Put a classifier under stress, and write tables and a picture.

    Raises:
        CausalCXRError: If anything asked for cannot be had.
    """
    stress_folder(out).check_foreign()
    fitted = SCM.load(model)
    shifts, dose = strains.shifts(fitted), strains.doses()
    flips = [parse([word]) for word in strains.flip]
    scorer = load_classifier(classifier, target=label, outputs=outputs)
    with Progress("Testing under stress"):
        found = stress(
            scorer,
            fitted,
            records.load(),
            label=label,
            shifts=shifts,
            dose=dose,
            search=tuple(strains.search),
            interventions=flips,
            by=tuple(strains.by),
            threshold=threshold,
            validation=load_cohort(validation) if validation else None,
            bootstrap=bootstrap,
            seed=seed,
        )
        found.save(out, overwrite=overwrite)
    for name, table in found.tables.items():
        show(name, _lines(table))
    console().print(
        f"{out}: {', '.join(found.tables)} as .csv, stress.png, stress.json", markup=False
    )


def evaluate_job(
    model: Path,
    records: Selection,
    do: Sequence[str],
    out: Path,
    *,
    reader: str = "",
    cycles: str = "1,10",
    bootstrap: int = 2000,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Evaluate a model's counterfactual images, and write a table and pictures.

    Raises:
        CausalCXRError: If anything asked for cannot be had.
    """
    evaluation_folder(out).check_foreign()
    try:
        asked = tuple(int(word) for word in cycles.split(","))
    except ValueError:
        raise AuditError(f"cycles {cycles!r}: write whole numbers, such as 1,10") from None
    fitted, actions = SCM.load(model), [parse([word]) for word in do]
    with Progress("Evaluating"):
        taught = _taught(reader, fitted)
        found = evaluate(
            fitted,
            records.load(),
            actions,
            reader=taught,
            cycles=asked,
            draws=bootstrap,
            seed=seed,
        )
        found.save(out, overwrite=overwrite)
    show("Axioms, realism, truth", _lines(found.table))
    console().print(f"{out}: evaluation.csv, evaluation.png, a sheet a question", markup=False)


def _taught(reader: str, model: SCM) -> AttributeReader | None:
    if not reader:
        return None
    return AttributeReader.fit(load_cohort(reader).with_images_only(), model.graph)


def load_classifier(
    word: str, *, target: str | None = None, outputs: str = "probability"
) -> Classifier:
    """Return a classifier as the command line names it.

    Args:
        word: A .csv of scores, or `MODULE:NAME` or `FILE.py:NAME`.
        target: The variable that it predicts.
        outputs: `probability` or `logit`.

    Raises:
        ClassifierError: If there is none.
    """
    if word.lower().endswith(".csv"):
        return as_classifier(word, target=target)
    place, colon, name = word.rpartition(":")
    if not colon or not place or not name:
        raise ClassifierError(
            f"classifier {word!r}: write FILE.csv, or MODULE:NAME or FILE.py:NAME of a function"
        )
    module = _module(place)
    if not hasattr(module, name):
        raise ClassifierError(f"classifier {word!r}: {place} has no {name!r}")
    thing = getattr(module, name)
    if isinstance(thing, Classifier):
        return thing
    return as_classifier(thing, target=target, outputs=outputs)


def _module(place: str) -> ModuleType:
    path = Path(place)
    try:
        if path.suffix != ".py":
            return importlib.import_module(place)
        if not path.is_file():
            raise ClassifierError(f"classifier: no file {place}")
        name = f"causalcxr_classifier_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    except ImportError as error:
        raise ClassifierError(f"classifier: {place} cannot be imported ({error})") from None
    return module


def _lines(table: pd.DataFrame) -> list[dict[str, str]]:
    """Return rows for the screen, numbers with four digits."""

    def told(value: Any) -> str:
        if isinstance(value, float):
            return "" if pd.isna(value) else f"{value:.4g}"
        return str(value)

    return [{k: told(v) for k, v in row.items()} for row in table.to_dict("records")]
