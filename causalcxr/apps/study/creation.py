"""Creation of a study: images without any trace of their source, and the plan."""

import hashlib
import io
import secrets
import shutil
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from causalcxr.apps.study.plan import KINDS, PLAN, Reader, StudyPlan, Trial
from causalcxr.apps.study.pools import DrawnPairs, draw_pairs
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.fingerprints import fingerprint
from causalcxr.common.errors import StudyError, nearest
from causalcxr.common.files import atomic_write
from causalcxr.common.result_folder import ResultFolder

__all__ = ["IMAGES", "draw_reader", "make_study", "reader_names"]

IMAGES = "images"
_MOST = {"trials": 2000, "readers": 200, "presentations": 10}
_FORMULA = ("=", "+", "-", "@")  # a spreadsheet evaluates a text that starts with one of these


def make_study(
    real: Cohort,
    synthetic: Cohort,
    out: str | Path,
    *,
    kind: str = "2afc",
    trials: int = 100,
    readers: int | Sequence[str] = 3,
    presentations: int = 2,
    seed: int = 0,
    match: Sequence[str] = ("View",),
    size: int | None = None,
    smooth: bool = False,
    leave_out: bool = False,
    title: str = "Real or synthetic?",
) -> StudyPlan:
    """Draw a study and write it to a new folder, completely or not at all.

    Every reader answers the same trials in an individual order. In the next presentation each
    half of the trials comes back in another order, so that at least half of the trials lie
    between the two presentations of a trial. The sides of the images in a pair are drawn again.

    Args:
        real: The pool of real images.
        synthetic: The pool of synthetic images.
        out: A new or empty folder.
        kind: "2afc" shows two images, one of them real; "single" shows one, half of them real.
        trials: The number of trials in each presentation; even for "single".
        readers: The number of readers, or their names.
        presentations: The number of times each reader answers each trial.
        seed: Of the design. Names of images and links are secret and do not depend on it.
        match: The columns by which the pools are matched.
        size: The longer side in pixels, for pools that differ in size.
        smooth: Interpolate enlarged images instead of showing each pixel as a square.
        leave_out: Leave out strata that one pool lacks, instead of refusing them.
        title: The title above the images.

    Raises:
        StudyError: If the pools do not allow the study, or the folder is not empty.
    """
    names = reader_names(readers)
    title = _checked_text("title", title)
    # The same call resumes an interrupted study; other settings need another folder.
    identity = {
        "real": fingerprint(real), "synthetic": fingerprint(synthetic), "kind": kind,
        "trials": trials, "readers": names, "presentations": presentations, "seed": seed,
        "match": list(match), "size": size, "smooth": smooth, "leave_out": leave_out,
        "title": title,
    }  # fmt: skip
    result = ResultFolder(Path(out), "causalcxr study", "a study", identity, error=StudyError)
    _check(result, kind, trials, presentations)
    # Stream 0 draws the images; each reader has a stream of its own.
    rng = np.random.default_rng([seed, 0])
    pairs = trials if kind == "2afc" else trials // 2
    drawn = draw_pairs(real, synthetic, pairs, rng, match=match, size=size, leave_out=leave_out)
    # Secret file names: neither order nor seed reveals which images are real.
    tokens = [[secrets.token_hex(12) for _ in range(pairs)] for _ in range(2)]
    files = {
        token: _png(image)
        for pool_tokens, images in zip(tokens, drawn.images, strict=True)
        for token, image in zip(pool_tokens, images, strict=True)
    }
    questions = _trials(kind, drawn, tokens, rng)
    plan = StudyPlan(
        kind,
        title,
        seed,
        tuple(match),
        drawn.images[0].shape[1:],
        smooth,
        tuple(questions),
        tuple(
            draw_reader(k, name, questions, presentations, seed) for k, name in enumerate(names)
        ),
        {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)},
        _about(real, synthetic, drawn),
    )
    return _write(result, plan, files)


def reader_names(readers: int | Sequence[str]) -> list[str]:
    """Return valid names of readers; a number gives "Reader 1" and so on.

    Example:
        >>> reader_names(2), reader_names(["Ada ", "Ben"])
        (['Reader 1', 'Reader 2'], ['Ada', 'Ben'])
    """
    if isinstance(readers, int):
        _within("readers", readers)
        return [f"Reader {k + 1}" for k in range(readers)]
    names = [_checked_text("reader", name) for name in readers]
    _within("readers", len(names))
    if repeated := [name for name in names if names.count(name) > 1]:
        raise StudyError(f"reader {repeated[0]!r} is named twice; give each reader a unique name")
    return names


def _check(result: ResultFolder, kind: str, trials: int, presentations: int) -> None:
    if kind not in KINDS:
        hint = nearest(kind, KINDS)
        raise StudyError(f"kind {kind!r} is unknown; use one of {', '.join(KINDS)}{hint}")
    _within("trials", trials)
    _within("presentations", presentations)
    if kind == "single" and trials % 2:
        raise StudyError(f"trials {trials}: half of the images are real; give an even number")
    out = result.path
    is_free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if (out.is_symlink() or not is_free) and not result.is_same():
        raise StudyError(f"{out}: the folder is not empty; give a new folder for the study")


def _within(what: str, number: int) -> None:
    if not 1 <= number <= _MOST[what]:
        raise StudyError(f"{what} {number}: give 1 to {_MOST[what]:,}")


def _checked_text(what: str, text: str) -> str:
    """Return a text that is one printable line and no formula of a spreadsheet."""
    text = text.strip()
    unprintable = any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text)
    if not 1 <= len(text) <= 80 or unprintable or text.startswith(_FORMULA):
        raise StudyError(
            f"{what} {text[:80]!r}: give 1 to 80 printable characters on one line that do not "
            f"start with {' '.join(_FORMULA)}"
        )
    return text


def _trials(
    kind: str, drawn: DrawnPairs, tokens: list[list[str]], rng: np.random.Generator
) -> list[Trial]:
    """Return the trials; in half of the pairs the real image comes first."""
    if kind == "single":
        return [
            Trial((tokens[k][i],), (k == 0,), (drawn.records[k][i],), drawn.strata[i])
            for i in range(len(drawn.strata))
            for k in (0, 1)
        ]
    # Pairs are matched within a stratum; their order within it is random already.
    trials = []
    # Balanced, so that answering "first" every time is right in half of the trials.
    for i, first in enumerate(_halves(len(drawn.strata), rng)):
        order = (1, 0) if first else (0, 1)
        images, records = (tuple(each[k][i] for k in order) for each in (tokens, drawn.records))
        trials.append(Trial(images, tuple(k == 0 for k in order), records, drawn.strata[i]))
    return trials


def draw_reader(
    number: int, name: str, trials: Sequence[Trial], presentations: int, seed: int
) -> Reader:
    """Return the orders of one reader, and which pairs change places.

    Args:
        number: The number of the reader, from 0; each has individual orders.
        name: The name of the reader.
        trials: The questions.
        presentations: The number of presentations.
        seed: Of the orders; the token is secret and does not depend on it.
    """
    # Later presentations shuffle within the halves of the previous order, which keeps repeats
    # apart.
    rng = np.random.default_rng([seed, 1, number])
    orders = [rng.permutation(len(trials))]
    for _ in range(presentations - 1):
        halves = np.array_split(orders[-1], 2)
        orders.append(np.concatenate([rng.permutation(half) for half in halves]))
    return Reader(
        name,
        secrets.token_urlsafe(18),
        tuple(tuple(order.tolist()) for order in orders),
        tuple(tuple(_swaps([trials[k] for k in order], rng)) for order in orders),
    )


def _swaps(trials: Sequence[Trial], rng: np.random.Generator) -> list[bool]:
    """Return which pairs change places, so that the real image comes first in half of them."""
    if len(trials[0].images) == 1:
        return [False] * len(trials)
    # Balanced again for each presentation, whatever the order of the trial as drawn.
    real_first = _halves(len(trials), rng)
    return [first != trial.real[0] for first, trial in zip(real_first, trials, strict=True)]


def _halves(n: int, rng: np.random.Generator) -> list[bool]:
    """Return n shuffled booleans, half of them true; for odd n, one more or one fewer."""
    n_true = n // 2 + (int(rng.integers(2)) if n % 2 else 0)
    return (rng.permutation(n) < n_true).tolist()


def _png(image: np.ndarray) -> bytes:
    """Return an 8-bit grey PNG without metadata."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, format="PNG")
    return content.getvalue()


def _about(real: Cohort, synthetic: Cohort, drawn: DrawnPairs) -> dict[str, object]:
    pools = {
        name: {
            "source": cohort.source,
            "origin": Path(cohort.origin).name if cohort.origin else "",
            "records": len(cohort),
            "images": int(cohort.images.available.sum()),
            "marked_synthetic": int(cohort.images.synthetic.sum()),
            "compared": compared,
        }
        for name, cohort, compared in zip(
            ("real", "synthetic"), (real, synthetic), drawn.compared, strict=True
        )
    }
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return {"version": version("causalcxr"), "made": created, "pools": pools}


def _write(result: ResultFolder, plan: StudyPlan, files: dict[str, bytes]) -> StudyPlan:
    """Write a study, completely or not at all, and return the plan in the folder."""
    with result.writing() as draft:
        if draft.complete:
            return StudyPlan.load(result.path)
        place = draft.place
        # Files of an interrupted run have other names, which are secret and drawn again.
        shutil.rmtree(place / IMAGES, ignore_errors=True)
        for name in sorted(files):  # in random order, so that file times reveal nothing
            atomic_write(place / IMAGES / f"{name}.png", files[name])
        # Images first, then the plan that lists them, then the manifest.
        (place / "answers").mkdir(exist_ok=True)
        atomic_write(place / PLAN, plan.to_json())
        (place / PLAN).chmod(0o600)  # it holds the truth and the links
        draft.finish({})
    return plan
