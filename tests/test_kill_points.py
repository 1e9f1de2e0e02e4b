"""A kill at any event of the file system: the same command again gives the same bytes.

`make test` tries a few kill points of each verb, `make test-all` every one.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kill_points import child, contents

from causalcxr import Cohort
from causalcxr.cli import app
from causalcxr.command import guarded

if not hasattr(sys, "addaudithook") or sys.platform == "win32":
    pytest.skip("needs fork", allow_module_level=True)

GRAPH = """
name: small
variables:
  Sex: {type: binary, levels: [F, M]}
  Edema: {type: binary, parents: [Sex]}
  Image: {type: image, parents: [Sex], mechanism: {kind: radit, resolution: 32, size: tiny,
          steps: 2, solver_steps: 2, batch: 4}}
"""
VARIES = ("date",)  # fields of manifests that differ from run to run


def run(*words: object) -> int:
    return guarded(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a cohort and a fitted model without an image."""
    home = tmp_path_factory.mktemp("home")
    Cohort.load("phantom", n=4, seed=1, size=32).save(home / "cohort")
    (home / "small.yaml").write_text(GRAPH)
    (home / "table.yaml").write_text(GRAPH.split("  Image")[0])
    rng = np.random.default_rng(0)
    sex = rng.choice(["F", "M"], 60)
    edema = np.where(rng.random(60) < 0.3, "P", "N")
    pd.DataFrame({"Sex": sex, "Edema": edema}).to_csv(home / "table.csv", index=False)
    assert run("fit", home / "table.yaml", home / "table.csv", "--out", home / "model") == 0
    return home


@pytest.fixture(scope="module")
def studio(home, tmp_path_factory) -> Path:
    """The same with a model of images, pairs, twins, a classifier, a key and a build."""
    studio = tmp_path_factory.mktemp("studio")
    for name in ("cohort", "table.csv", "table.yaml"):
        (studio / name).symlink_to(home / name)
    assert run("fit", home / "small.yaml", "phantom:n=40,size=32", "--out", studio / "model") == 0
    asked = (studio / "model", studio / "cohort", "--do", "sex=M")
    assert run("pairs", *asked, "--out", studio / "pairs") == 0
    assert run("counterfactual", *asked, "--out", studio / "t") == 0
    (studio / "key").write_bytes(b"0123456789abcdef")
    (studio / "grey.py").write_text("def grey(images):\n    return images.mean((1, 2, 3))\n")
    (studio / "store.yaml").write_text("output: s\nsize: 16\nsources: [{path: cohort}]\n")
    return studio


def verbs(home: Path) -> dict[str, list]:
    """Return the words of each verb that writes a folder."""
    asked = [home / "model", home / "cohort", "--do", "sex=M"]
    return {
        "fit": ["fit", home / "table.yaml", home / "table.csv"],
        "sample": ["sample", home / "model", "--n", 2],
        "counterfactual": ["counterfactual", *asked],
        "pairs": ["pairs", *asked],
        "effect": ["effect", *asked],
        "probabilities": ["probabilities", *asked],
        "sensitivity": ["sensitivity", *asked],
        "check": ["check", home / "model", home / "cohort"],
        "audit": ["audit", home / "pairs", f"{home / 'grey.py'}:grey", "--bootstrap", 5],
        "cohort save": ["cohort", "save", home / "cohort"],
        "cohort phantom": ["cohort", "phantom", "--n", 3, "--size", 32],
        "cohort build": ["cohort", "build", home / "store.yaml"],
        "export": ["export", home / "t", "--format", "png", "--key", home / "key"],
    }


VERBS = tuple(verbs(Path()))


def plain(found: dict[str, bytes]) -> dict[str, object]:
    """Return what was written, without the fields that differ from run to run."""
    left: dict[str, object] = dict(found)
    for name, content in found.items():
        if name.endswith("manifest.json"):
            told = json.loads(content)
            left[name] = {key: value for key, value in told.items() if key not in VARIES}
    return left


def swept(home: Path, tmp_path: Path, verb: str, points: int | None) -> int:
    """Kill a verb at events of its run, run it again each time, and compare.

    Args:
        home: What the verb reads.
        tmp_path: Where it writes.
        verb: Which.
        points: So many kill points, spread over all; None for all.

    Returns:
        How many events a whole run has.
    """
    words = verbs(home)[verb]

    def work(place: Path) -> None:
        assert run(*words, "--out", place / "out") in (0, 1)

    (tmp_path / "whole").mkdir()
    status, events = child(lambda: work(tmp_path / "whole"), tmp_path / "whole", 10**9)
    assert status == 0, f"{verb} ends with {status}"
    whole = plain(contents(tmp_path / "whole"))
    chosen = range(1, events + 1)
    if points is not None:
        chosen = sorted({int(k) for k in np.linspace(1, events, points)})
    for k in chosen:
        place = tmp_path / f"at-{k}"
        place.mkdir()
        status, _ = child(lambda p=place: work(p), place, k)
        assert status == -9, f"{verb}: not killed at event {k} of {events}"
        status, _ = child(lambda p=place: work(p), place, 10**9)
        assert status == 0, f"{verb}: killed at event {k} of {events}, the next run fails"
        found = plain(contents(place))
        assert found.keys() == whole.keys(), f"{verb}: killed at event {k} of {events}"
        differing = [name for name in whole if found[name] != whole[name]]
        assert not differing, f"{verb}: killed at event {k} of {events}: {differing}"
    return events


@pytest.mark.parametrize("verb", ["fit", "counterfactual", "pairs", "effect", "cohort phantom"])
def test_given_a_kill_at_two_events_then_the_same_command_gives_the_same_bytes(
    home, tmp_path, verb
):
    assert swept(home, tmp_path, verb, 2) > 10


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_given_a_kill_at_any_event_then_the_same_command_gives_the_same_bytes(
    studio, tmp_path, verb
):
    assert swept(studio, tmp_path, verb, None) > 10
