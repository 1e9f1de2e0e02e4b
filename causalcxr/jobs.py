"""What the verbs of the command line do: load, fit, make twins, write folders, say what was written."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from causalcxr.cohort import Cohort
from causalcxr.contact_sheet import contact_sheet
from causalcxr.errors import CohortError, InterventionError
from causalcxr.graph import Graph
from causalcxr.interventions import Intervention, parse
from causalcxr.scm import SCM
from causalcxr.twin_folder import TwinJob, TwinResult, write_twins

__all__ = [
    "counterfactual_job",
    "fit_model",
    "load_cohort",
    "narrowed",
    "parse_spec",
    "sample_model",
    "show_changes",
    "show_cohort",
]


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """Split a cohort's name from its options.

    Example:
        >>> parse_spec("phantom:n=500,seed=1")
        ('phantom', {'n': 500, 'seed': 1})
    """
    name, colon, rest = spec.partition(":")
    if not colon or "=" not in rest:
        return spec, {}
    options: dict[str, Any] = {}
    for part in rest.split(","):
        key, equals, value = (text.strip() for text in part.partition("="))
        if not equals or not value.lstrip("-").isdigit():
            raise CohortError(f"cohort {spec!r}: option {part!r}; write name=whole number, such as n=500")
        options[key] = int(value)
    return name, options


def load_cohort(spec: str) -> Cohort:
    """Read a cohort as the command line names it."""
    name, options = parse_spec(spec)
    try:
        return Cohort.load(name, **options)
    except TypeError:
        raise CohortError(
            f"cohort {spec!r}: this source does not take all of {', '.join(options)}; phantom takes n, seed, size; a"
            " folder takes size"
        ) from None


def narrowed(cohort: Cohort, *, where: str = "", split: str = "", limit: int = 0) -> Cohort:
    """Return the records that are asked for, those with images first if there are any.

    Raises:
        CohortError: If none is left.
    """
    chosen = cohort.split(split) if split else cohort
    chosen = chosen.select(where) if where else chosen
    chosen = chosen.with_images_only() if chosen.has_images else chosen
    chosen = chosen.head(limit) if limit else chosen
    if not len(chosen):
        raise CohortError(f"no record is left of {len(cohort):,} (split {split!r}, where {where!r}); ask for others")
    return chosen


def fit_model(graph: str, cohort: Cohort, out: Path, *, seed: int = 0) -> SCM:
    """Fit a graph to a cohort and save the model; a model that is there already keeps what is not stale."""
    asked = Graph.load(graph)
    present = (out / "manifest.json").exists()
    model = SCM.load(out).with_graph(asked) if present else SCM(asked)
    training = out / "training"
    fitted = model.fit(cohort, seed=seed, folder=training)
    fitted.save(out)
    shutil.rmtree(training, ignore_errors=True)
    kept = [n for n, f in fitted.fitted.items() if f is model.fitted.get(n)]
    learned = [n for n in fitted.fitted if n not in kept]
    print(f"{out}: learned {', '.join(learned) or 'nothing'}" + (f"; kept {', '.join(kept)}" if kept else ""))
    if fitted.unseen:
        print(f"never observed, so they stay missing: {', '.join(sorted(fitted.unseen))}")
    return fitted


def sample_model(model: Path, n: int, do: Sequence[str], out: Path, *, seed: int = 0) -> None:
    """Draw records from a model and write them as a cohort, with a sheet of the first images."""
    loaded = SCM.load(model)
    drawn = (loaded.do(parse(do)) if do else loaded).sample(n, seed=seed)
    drawn.save(out)
    print(f"{out}: {drawn}")
    if drawn.has_images:
        show_cohort(drawn, out / "samples.png", synthetic=True)


def show_cohort(cohort: Cohort, out: Path | None, *, synthetic: bool = False) -> None:
    """Print what a cohort holds, and draw its first images if asked."""
    table = Table(title=repr(cohort), title_justify="left", box=None, pad_edge=False)
    for heading in ("column", "missing", "values"):
        table.add_column(heading)
    for name, column in cohort.table.items():
        told = (
            f"{column.min():g} to {column.max():g}, median {column.median():g}"
            if column.dtype.kind in "iuf"
            else ", ".join(f"{k} {v:,}" for k, v in column.value_counts().head(8).items())
        )
        table.add_row(Text(str(name)), f"{column.isna().sum():,}", Text(told))
    Console().print(table)
    for note in cohort.notes:
        print(note)
    if out is not None:
        shown = cohort.with_images_only().head(24)
        contact_sheet(
            shown.images[:], [str(r) for r in shown.records], path=out,
            synthetic=synthetic or cohort.source == "phantom",
        )
        print(f"drawn to {out}")


def counterfactual_job(
    model: Path,
    cohort: Cohort,
    do: Sequence[str],
    out: Path,
    *,
    hold: Sequence[str] = (),
    draws: int = 1,
    seed: int = 0,
    beyond_range: bool = False,
) -> None:
    """Make twins with a saved model and write them; say what changed and where everything is."""
    if not do:
        raise InterventionError("counterfactual: nothing to do; give --do NAME=VALUE, such as --do sex=M")
    loaded = SCM.load(model)
    action = parse(do, beyond_range=beyond_range)
    job = TwinJob(loaded, cohort, action, tuple(hold), draws, seed)
    show_changes(write_twins(job, out), action, out)


def show_changes(result: TwinResult, action: Intervention, out: Path) -> None:
    """Print one screen: what changed downstream, and the files."""
    n = len(result.compared.factual)
    table = Table(title=f"{n:,} twins under {action.describe()}", title_justify="left", box=None)
    for heading in ("variable", "changed", "what"):
        table.add_column(heading, justify="right" if heading == "changed" else "left")
    for name, row in result.changed.items():
        table.add_row(Text(name), f"{row['changed']:,}", Text(row["what"]))
    console = Console(soft_wrap=True)
    console.print(table)
    for file, about in result.files.items():
        console.print(Text(f"  {out / file}", style="bold"), Text(about))
    sys.stdout.flush()

