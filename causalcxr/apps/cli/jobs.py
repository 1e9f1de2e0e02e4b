"""What the verbs of the command line do: load, fit, make twins, write folders, report."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from causalcxr.apps.cli.twin_folder import TwinJob, TwinResult, write_twins
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.fingerprints import fingerprint
from causalcxr.cohort.saved import save
from causalcxr.cohort.selection import Selection, load_cohort
from causalcxr.common.errors import CohortError, InterventionError
from causalcxr.common.progress import resumable
from causalcxr.common.tensors import load_tensors
from causalcxr.common.terminal import visible
from causalcxr.graph.diff import NEW
from causalcxr.graph.graph import Graph
from causalcxr.graph.interventions import Intervention, parse
from causalcxr.images.contact_sheet import contact_sheet
from causalcxr.scm import saved_model as model_folder
from causalcxr.scm.fitting import learned_again
from causalcxr.scm.scm import SCM

__all__ = [
    "counterfactual_job",
    "fit_model",
    "identity_of",
    "sample_model",
    "save_cohort",
    "show_changes",
    "show_cohort",
]

_SHOWN = 24  # images on a sheet


def fit_model(graph: str, cohort: str, out: Path, *, seed: int = 0) -> SCM:
    """Fit a graph to a cohort and save the model; what is there and not stale is kept.

    Args:
        graph: A YAML file, or a bundled graph.
        cohort: The cohort as the command line names it.
        out: A new folder, or one of a model.
        seed: Of weights and batches.

    Raises:
        CausalCXRError: As `SCM.fit`, `SCM.load` and `SCM.save` do.
    """
    asked = Graph.load(graph)
    kept = f"a long training goes on from its last checkpoint in {out}"
    with model_folder.writing(out), resumable(kept):
        present = (out / "manifest.json").exists()
        model = SCM.load(out).with_graph(asked) if present else SCM(asked)
        records = load_cohort(cohort)
        fitted = model.fit(records, seed=seed, folder=out / "training")
        model_folder.write(fitted, out)
        shutil.rmtree(out / "training", ignore_errors=True)
    learned = learned_again(model.fitted, fitted.fitted)
    kept = [n for n in fitted.fitted if n not in learned]
    told = f"; kept {', '.join(kept)}" if kept else ""
    print(f"{out}: learned {', '.join(learned) or 'nothing'}{told}")
    for name, why in learned.items():
        if why != NEW:
            print(f"  {name}: {why}")
    if fitted.unseen:
        print(f"never observed, so they stay missing: {', '.join(sorted(fitted.unseen))}")
    _tell_foreign_weights(fitted, records)
    return fitted


def _tell_foreign_weights(model: SCM, cohort: Cohort) -> None:
    """Say so where images of one world will be made by weights that know another."""
    name = model.graph.image
    if name not in model.fitted or not cohort.has_images:
        return
    mechanism = model.fitted[name].mechanism
    if mechanism.options["steps"]:
        return
    source = load_tensors(mechanism.weights)[1].get("source", "another cohort")
    if cohort.source not in source:
        print(
            f"{name}: keeps the weights {mechanism.options['weights']!r}, which know {source} and "
            f"not {cohort.source}; give the graph 'steps' to train them on this cohort"
        )


def sample_model(
    model: Path, n: int, do: Sequence[str], out: Path, *, seed: int = 0, overwrite: bool = False
) -> None:
    """Draw records from a model and write them as a cohort, with a sheet of the first images.

    Args:
        model: A fitted model's folder.
        n: Number of records.
        do: Interventions, `NAME=VALUE` each.
        out: A new folder.
        seed: Another seed, other records.
        overwrite: Replace the cohort that the folder holds, even the same one.

    Raises:
        CausalCXRError: As `SCM.sample` and `Cohort.save` do.
    """
    loaded, action = SCM.load(model), parse(do)
    asked = {
        "source": "model",
        "n": n,
        "seed": seed,
        "intervention": action.bind(loaded.graph).to_json(),
        **identity_of(loaded),
    }
    drawn = loaded.do(action).sample(n, seed=seed)

    def sheet(place: Path) -> None:
        if drawn.has_images:
            _draw(drawn, place / "samples.png")

    save(drawn, out, asked=asked, overwrite=overwrite, beside=sheet)
    show_cohort(drawn)
    print(f"{out}: {drawn}")


def identity_of(model: SCM) -> dict[str, Any]:
    """Return what tells a fitted model from others: its graph's hash, and each equation's."""
    return {
        "graph": model.graph.name,
        "graph_hash": model.graph.hash,
        "mechanisms": {name: fitted.hash for name, fitted in model.fitted.items()},
    }


def save_cohort(cohort: str, out: Path, *, overwrite: bool = False) -> None:
    """Read a cohort and write it as a folder of its own.

    Args:
        cohort: The cohort as the command line names it.
        out: A new folder.
        overwrite: Replace the cohort that it holds, even the same one.

    Raises:
        CohortError: As `load_cohort` and `Cohort.save` do.
    """
    loaded = load_cohort(cohort)
    asked = {"source": loaded.source, "fingerprint": fingerprint(loaded)}
    print(f"{save(loaded, out, asked=asked, overwrite=overwrite)}: {loaded}")


def show_cohort(cohort: Cohort, out: Path | None = None) -> None:
    """Print what a cohort holds, and draw its first images if asked.

    Raises:
        CohortError: If it has no images to draw.
    """
    title = Text(visible(repr(cohort)))  # Text, not markup: a source may be called [bold]
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("column", "missing", "values"):
        table.add_column(heading)
    for name, column in cohort.table.items():
        missing = f"{column.isna().sum():,}"
        values = visible(_summary(column.dropna()))
        table.add_row(Text(visible(str(name))), missing, Text(values))
    Console().print(table)
    for note in cohort.notes:
        print(visible(note))
    if out is not None:
        _draw(cohort, out)
        print(f"drawn to {out}")


def _summary(column: Any) -> str:
    """Return the values of a column in a few words."""
    if not len(column):
        return ""
    if column.dtype.kind in "iuf":
        return f"{column.min():g} to {column.max():g}, median {column.median():g}"
    counts = column.value_counts()
    more = f", and {len(counts) - 8:,} more" if len(counts) > 8 else ""
    return ", ".join(f"{value} {count:,}" for value, count in counts.head(8).items()) + more


def _draw(cohort: Cohort, out: Path) -> None:
    """Draw the first images of a cohort on a page."""
    if not cohort.has_images:
        raise CohortError(f"{cohort.source}: no images to draw")
    shown = cohort.with_images_only().head(_SHOWN)
    names = [str(record) for record in shown.records]
    try:
        contact_sheet(shown.images[:], names, path=out, synthetic=shown.images.synthetic)
    except OSError as error:
        raise CohortError(f"{out}: cannot be written ({error.strerror or error})") from None


def counterfactual_job(
    model: Path,
    records: Selection,
    do: Sequence[str],
    out: Path,
    *,
    hold: Sequence[str] = (),
    draws: int = 1,
    missing: str = "keep",
    seed: int = 0,
    beyond_range: bool = False,
    workers: int = 1,
    cluster: str | None = None,
    overwrite: bool = False,
) -> None:
    """Make twins with a saved model and write them; say what changed and where everything is.

    Args:
        model: A fitted model's folder.
        records: Which records.
        do: Interventions, `NAME=VALUE` each.
        out: A new folder; a job that was killed is resumed there.
        hold: Variables that keep their factual value.
        draws: Posterior draws a record.
        missing: What becomes of missing values: "keep" or "posterior".
        seed: Of the posterior draws.
        beyond_range: Allow values outside range or support; recorded.
        workers: Processes that make images; see `engine.run`.
        cluster: The address of a Dask scheduler, whose workers make them instead.
        overwrite: Replace the twins that the folder holds, even the same ones.

    Raises:
        CausalCXRError: As `SCM.load`, `Cohort.load` and `write_twins` do.
    """
    if not do:
        raise InterventionError(
            "counterfactual: nothing to do; give --do NAME=VALUE, such as --do sex=M"
        )
    action = parse(do, beyond_range=beyond_range)
    loaded = SCM.load(model)
    loaded.do(action, hold=hold)  # refused before a cohort is read
    job = TwinJob(loaded, records.load(), action, tuple(hold), draws, missing, seed)
    with resumable(f"the twins so far are in {out}"):
        result = write_twins(job, out, workers=workers, cluster=cluster, overwrite=overwrite)
    show_changes(result, action, out)


def show_changes(result: TwinResult, action: Intervention, out: Path) -> None:
    """Print one screen: what changed downstream, and the files.

    Args:
        result: What was made.
        action: What was done.
        out: The folder it was written to.
    """
    n = len(result.compared)
    title = Text(visible(f"{n:,} twins under {action.describe()}"))
    table = Table(title=title, title_justify="left", box=None)
    for heading in ("variable", "changed", "what"):
        table.add_column(heading, justify="right" if heading == "changed" else "left")
    for name, row in result.changed.items():
        table.add_row(Text(name), f"{row['changed']:,}", Text(row["what"]))
    console = Console(soft_wrap=True)
    console.print(table)
    for note in result.notes:
        console.print(Text(visible(note)))
    for file, about in result.files.items():
        console.print(Text(visible(f"  {out / file}"), style="bold"), Text(about))
    sys.stdout.flush()
