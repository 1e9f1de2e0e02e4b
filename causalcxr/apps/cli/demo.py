"""`causalcxr demo`: from an expert graph to counterfactual images of phantoms, and the truth."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from causalcxr.apps.cli.options import Overwrite, Seed

if TYPE_CHECKING:
    from causalcxr.apps.cli.twin_job import TwinJob
    from causalcxr.audit.attribute_reader import AttributeReader
    from causalcxr.cohort.comparison import Comparison
    from causalcxr.graph.graph import Graph
    from causalcxr.graph.interventions import Intervention

__all__ = ["DemoOptions", "demo", "expert_graph"]

_PIXELS = 128  # along each side of the radiographs
_PAIRS = 6  # patients in each picture


@dataclass(frozen=True)
class _Example:
    """An intervention, and the patients it is applied to."""

    folder: str
    patients: str
    action: "Intervention"


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """How many phantoms, and where everything is written."""

    out: Annotated[Path, typer.Option(help="Where to write.")] = Path("demo")
    n: Annotated[int, typer.Option(help="Number of phantoms.")] = 2000
    images: Annotated[
        int, typer.Option(help="Twins with images for each intervention; 0 for all.")
    ] = 32
    seed: Seed = 0
    overwrite: Overwrite = False


def demo(options: DemoOptions) -> None:
    """From an expert graph to twins: phantoms, fit, do(sex=M), do(pleural_effusion=N and P)."""
    from causalcxr.common.result_folder import ResultFolder

    # A folder without a manifest of its own, but with that of a model, is a demo of version 0.1.0.
    def is_older(path: Path) -> bool:
        return (path / "model" / "manifest.json").is_file()

    identity = {"n": options.n, "images": options.images, "seed": options.seed}
    result = ResultFolder(
        options.out,
        "causalcxr demo",
        "a demo",
        identity,
        options.overwrite,
        recognises=is_older,
    )
    with result.writing() as draft:
        if draft.complete:
            return
        _write(draft.place, options)
        draft.finish({})


def _write(place: Path, options: DemoOptions) -> None:
    """Write the demo to a place that will be `options.out`."""
    from causalcxr.apps.cli.demo_truth import demo_reader, print_scores
    from causalcxr.apps.cli.twin_job import TwinJob
    from causalcxr.cohort.cohort import Cohort
    from causalcxr.scm.scm import SCM

    say, out, seed = _clock(), options.out, options.seed
    # The expert graph, fitted to the tables of phantoms.
    graph = expert_graph()
    patients = Cohort.load("phantom", n=options.n, seed=seed, size=_PIXELS)
    say(f"{patients!r}")
    model = SCM(graph).fit(patients, seed=seed)
    model.save(place / "model")
    graph.draw(place / "graph.png")
    say(f"{len(graph.tabular)} equations fitted; the image equation is the bundled RadiT")
    # A classifier that never saw a twin reads the values that the interventions set.
    examples = _examples()
    reader = demo_reader(graph, [example.action for example in examples], seed)
    say("a classifier trained, which will read the twins")
    scores = []
    for example in examples:
        chosen = patients.select(example.patients)
        if not len(chosen):
            say(f"no patients for {example.action.describe()}; give a larger --n")
            continue
        job = TwinJob(
            model,
            chosen,
            example.action,
            seed=seed,
            with_images=options.images or None,
            pairs=_PAIRS,
        )
        scores.append(_write_twins(job, reader, place, out, example.folder))
        say(f"{example.action.describe()}: done\n")
    print_scores(scores)
    print(f"\n  {out / 'graph.png'} the expert graph\n  {out / 'model'} the fitted model")
    say("done. Synthetic images, not for clinical use.")


def expert_graph() -> "Graph":
    """Return the expert graph, whose twins are edits of the radiograph."""
    from causalcxr.graph.graph import Graph
    from causalcxr.graph.mechanism_spec import MechanismSpec

    graph = Graph.load("cxr7")
    image = graph[graph.image]
    options = {**image.mechanism.options, "coupling": "transport"}
    return graph.with_variable(
        image.replace(mechanism=MechanismSpec(image.mechanism.kind, options))
    )


def _examples() -> list[_Example]:
    """Return the interventions of the demo."""
    from causalcxr.graph.interventions import do

    frontal = "View != 'LATERAL'"
    return [
        _Example("do-sex-M", "Sex == 'F'", do(sex="M")),
        _Example(
            "do-pleural-effusion-N",
            f"`Pleural Effusion` == 'P' and {frontal}",
            do(pleural_effusion="N"),
        ),
        _Example(
            "do-pleural-effusion-P",
            f"`Pleural Effusion` == 'N' and {frontal}",
            do(pleural_effusion="P"),
        ),
    ]


def _clock() -> Callable[[str], None]:
    """Return a function that prints a line after the seconds since this call."""
    start = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - start:5.1f} s] {text}", flush=True)

    return say


def _write_twins(
    job: "TwinJob", reader: "AttributeReader", place: Path, out: Path, name: str
) -> dict[str, Any]:
    """Write the twins of a job, and compare their images with the phantom's true twins."""
    from causalcxr.apps.cli.counterfactual import print_changes
    from causalcxr.apps.cli.demo_truth import score_twins
    from causalcxr.apps.cli.twin_folder import write_twins
    from causalcxr.common.files import atomic_write
    from causalcxr.sources.phantom import truth

    n = min(job.with_images or len(job.cohort), len(job.cohort))

    def write_score(folder: Path, compared: "Comparison") -> None:
        some = compared.factual.head(n).compare(compared.counterfactual.head(n))
        true = truth(some.factual, job.action)
        score = score_twins(some, true, job.action, job.model.graph, reader)
        some.plot(_PAIRS, folder / "truth.png", true=true)
        atomic_write(folder / "truth.json", json.dumps(score, indent=1) + "\n")

    # The score is written with the twins, so that a resumed demo has it.
    result = write_twins(job, place / name, beside=write_score)
    print_changes(result, job.action, out / name)
    print(f"  {out / name / 'truth.png'} factual | true twin | twin | difference")
    graph = job.model.graph
    names = " and ".join(job.action.bind(graph).names)
    print(
        f"  {names} is set; its effects follow with each patient's own exogenous noise, and "
        "everything else stays as it was."
    )
    return json.loads((place / name / "truth.json").read_text(encoding="utf-8"))
