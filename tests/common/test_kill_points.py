"""A kill at any event of the file system: the same command again gives the same bytes.

`make test` tries two kill points of a few verbs. `make test-all` tries every one of the verbs
whose runs are short and some of the others; `CAUSALCXR_KILLS=all` tries every one of all verbs.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kill_points import child, contents

from causalcxr import Cohort
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app
from causalcxr.images.images import ArrayImages

if not hasattr(sys, "addaudithook") or sys.platform == "win32":
    pytest.skip("needs fork", allow_module_level=True)

GRAPH = """
name: small
variables:
  Sex: {type: binary, levels: [F, M]}
  Edema: {type: binary, parents: [Sex]}
  Image: {type: image, parents: [Sex], mechanism: {kind: radit, resolution: 8, size: tiny,
          steps: 1, solver_steps: 1, batch: 4}}
"""
TRAINING = """
out: w.safetensors
cohort: phantom:n=6,size=32
resolution: 32
network: {width: 8, depth: 1, heads: 1}
device: cpu
training: {steps: 2, batch: 2, save_every: 0, log: 1, precision: fp32}
"""
VARIES = (  # fields that differ from run to run
    "command", "date", "files_sha256", "images_per_second", "loss_of_this_run",
    "minutes_of_this_run", "seconds",
)  # fmt: skip
DATE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
SHORT = ("fit", "counterfactual", "effect", "probabilities", "cohort save")
SOME = None if os.environ.get("CAUSALCXR_KILLS") == "all" else 25
TWINS = ("counterfactual", "pairs", "effect")
SECRET = ("study new",)  # names of images and links are drawn anew


def run(*words: object) -> int:
    return guarded(app, [str(word) for word in words])


def small_cohort(n: int, seed: int) -> Cohort:
    """Return patients with images of 8 x 8 pixels."""
    rng = np.random.default_rng(seed)
    sex = np.where(np.arange(n) % 2, "M", "F")
    edema = np.where(rng.random(n) < 0.3, "P", "N")
    table = pd.DataFrame({"Sex": sex, "Edema": edema, "View": "PA"})
    images = ArrayImages(rng.random((n, 8, 8)), synthetic=True)
    return Cohort(table, images, source="noise")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a cohort and a fitted model without an image."""
    home = tmp_path_factory.mktemp("home")
    for name in (
        "apps.cli.twin_folder", "audit.making_pairs", "audit.model_evaluation", "audit.stressing",
        "apps.export.exporting", "scm.questions.confounding", "scm.questions.sensitivity",
    ):  # fmt: skip
        import_module(f"causalcxr.{name}")  # here once, not in each child
    small_cohort(2, 1).save(home / "cohort")
    small_cohort(60, 0).save(home / "patients")
    (home / "small.yaml").write_text(GRAPH)
    (home / "table.yaml").write_text(GRAPH.split("  Image")[0])
    assert run("fit", home / "table.yaml", home / "patients", "--out", home / "model") == 0
    return home


@pytest.fixture(scope="module")
def studio(home, tmp_path_factory) -> Path:
    """The same with a model of images, pairs, twins, a classifier, a key and a build."""
    studio = tmp_path_factory.mktemp("studio")
    for name in ("cohort", "patients", "table.yaml"):
        (studio / name).symlink_to(home / name)
    for name in ("model", "other"):
        made = studio / name
        seed = ("--seed", len(name))
        assert run("fit", home / "small.yaml", home / "patients", *seed, "--out", made) == 0
    asked = (studio / "model", studio / "cohort", "--do", "sex=M")
    assert run("pairs", *asked, "--out", studio / "pairs") == 0
    assert run("counterfactual", *asked, "--out", studio / "t") == 0
    small_cohort(8, 3).save(studio / "synthetic")
    (studio / "key").write_bytes(b"0123456789abcdef")
    (studio / "grey.py").write_text("def grey(images):\n    return images.mean((1, 2, 3))\n")
    (studio / "store.yaml").write_text("output: s\nsize: 16\nsources: [{path: cohort}]\n")
    (studio / "training.yaml").write_text(TRAINING)
    return studio


def verbs(home: Path) -> dict[str, list]:
    """Return the words of each verb that writes a folder."""
    asked = [home / "model", home / "cohort", "--do", "sex=M"]
    grey, few = f"{home / 'grey.py'}:grey", ["--bootstrap", 5]
    return {
        "fit": ["fit", home / "table.yaml", home / "patients"],
        "sample": ["sample", home / "model", "--n", 2],
        "counterfactual": ["counterfactual", *asked],
        "pairs": ["pairs", *asked],
        "effect": ["effect", *asked],
        "probabilities": ["probabilities", *asked],
        "sensitivity": ["sensitivity", *asked],
        "confounding": ["confounding", *asked],
        "compare": ["compare", home / "model", home / "other", home / "cohort", "--do", "sex=M"],
        "check": ["check", home / "model", home / "patients"],
        "audit": ["audit", home / "pairs", grey, *few],
        "stress": ["stress", home / "model", home / "patients", grey, "--label", "Edema",
                   "--share", "Edema=P:.4", *few],
        "evaluate": ["evaluate", *asked, "--cycles", 1, *few],
        "cohort save": ["cohort", "save", home / "cohort"],
        "cohort phantom": ["cohort", "phantom", "--n", 3, "--size", 32],
        "cohort build": ["cohort", "build", home / "store.yaml"],
        "export": ["export", home / "t", "--format", "png", "--key", home / "key"],
        "study new": ["study", "new", home / "patients", home / "synthetic", "--trials", 2,
                      "--readers", 1],
        "radit train": ["radit", "train", home / "training.yaml"],
    }  # fmt: skip


VERBS = tuple(verbs(Path()))


def given(words: list, out: Path) -> list:
    """Return the words of a verb with the place that it writes to."""
    if words[0] == "radit":
        return [*words, f"out={out}.safetensors"]
    return [*words, "--out", out]


def plain(found: dict[str, bytes], verb: str) -> dict[str, object]:
    """Return what was written, without what differs from run to run."""
    if verb in SECRET:
        return {str(len(found)): sorted(Path(name).suffix for name in found)}
    left: dict[str, object] = {name: DATE.sub(b"", content) for name, content in found.items()}
    for name, content in found.items():
        if name.endswith(".json"):
            told = json.loads(left[name])
            left[name] = {key: value for key, value in told.items() if key not in VARIES}
        if name.endswith(".jsonl"):
            lines = [json.loads(line) for line in content.splitlines()]
            left[name] = [{k: v for k, v in line.items() if k not in VARIES} for line in lines]
        if name.endswith("SHA256SUMS"):
            rows = [line.split("  ", 1) for line in content.decode().splitlines()]
            for digest, file in rows:
                listed = (Path(name).parent / file).as_posix()
                assert hashlib.sha256(found[listed]).hexdigest() == digest, listed
            left[name] = [file for _, file in rows]
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
        assert run(*given(words, place / "out")) in (0, 1)

    (tmp_path / "whole").mkdir()
    status, events = child(lambda: work(tmp_path / "whole"), tmp_path / "whole", 10**9)
    assert status == 0, f"{verb} ends with {status}"
    whole = plain(contents(tmp_path / "whole"), verb)
    for k in spread(events, points):
        place = tmp_path / f"at-{k}"
        place.mkdir()
        status, _ = child(lambda p=place: work(p), place, k)
        assert status == -9, f"{verb}: not killed at event {k} of {events}"
        status, _ = child(lambda p=place: work(p), place, 10**9)
        assert status == 0, f"{verb}: killed at event {k} of {events}, the next run fails"
        found = plain(contents(place), verb)
        assert found.keys() == whole.keys(), f"{verb}: killed at event {k} of {events}"
        differing = [name for name in whole if found[name] != whole[name]]
        assert not differing, f"{verb}: killed at event {k} of {events}: {differing}"
        shutil.rmtree(place)
    return events


def spread(events: int, points: int | None) -> list[int]:
    """Return so many kill points, spread over all; all of them where None are given."""
    if points is None or points >= events:
        return list(range(1, events + 1))
    return sorted({int(k) for k in np.linspace(1, events, points)})


@pytest.mark.parametrize(
    "verb",
    ["fit", "cohort save", *(pytest.param(v, marks=pytest.mark.slow) for v in TWINS)],
)
def test_rerun_after_two_kills_gives_the_same_bytes(home, tmp_path, verb):
    assert swept(home, tmp_path, verb, 2) > 10


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_rerun_after_any_kill_gives_the_same_bytes(studio, tmp_path, verb):
    assert swept(studio, tmp_path, verb, None if verb in SHORT else SOME) > 10


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["counterfactual", "effect", "cohort save"])
def test_kill_during_replacement_leaves_a_complete_result(studio, tmp_path, verb):
    words = verbs(studio)[verb]
    other = [studio / "patients" if word == studio / "cohort" else word for word in words]
    assert run(*other, "--out", tmp_path / "old" / "out") == 0
    assert run(*words, "--out", tmp_path / "new" / "out") == 0
    old, new = (plain(contents(tmp_path / name), verb) for name in ("old", "new"))

    def work(place: Path) -> None:
        assert run(*words, "--out", place / "out", "--overwrite") == 0

    def replaced(name: str, dies_at: int) -> tuple[Path, int, int]:
        place = tmp_path / name
        shutil.copytree(tmp_path / "old", place)
        return (place, *child(lambda: work(place), place, dies_at))

    place, _, events = replaced("whole", 10**9)
    assert plain(contents(place), verb) == new
    for k in spread(events, SOME):
        place, status, _ = replaced(f"at-{k}", k)
        assert status == -9
        held = {n: c for n, c in plain(contents(place), verb).items() if n.startswith("out")}
        between = place / ".out.unfinished" / "old"  # for as long as two renames take
        assert held in (old, new) or (not held and between.is_dir()), f"killed at event {k}"
        assert child(lambda p=place: work(p), place, 10**9)[0] == 0
        assert plain(contents(place), verb) == new, f"killed at event {k}"
        shutil.rmtree(place)
