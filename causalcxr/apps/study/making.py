"""Making a study: the images without a trace of where they came from, and the plan, at once."""

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

from causalcxr.apps.study.plan import KINDS, PLAN, Plan, Reader, Trial
from causalcxr.apps.study.pools import Drawn, draw_pairs
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.fingerprints import fingerprint
from causalcxr.common.errors import StudyError, nearest
from causalcxr.common.files import atomic_write
from causalcxr.common.result_folder import ResultFolder

__all__ = ["IMAGES", "drawn_reader", "make_study", "reader_names"]

IMAGES = "images"
_MOST = {"trials": 2000, "readers": 200, "presentations": 10}
_FORMULA = ("=", "+", "-", "@")  # a spreadsheet would compute what begins so


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
) -> Plan:
    """Draw a study and write it to a new folder, whole or not at all.

    Every reader answers the same trials, in an order of their own. In the next presentation each
    half of the trials comes back in another order, so that at least half of the trials lie
    between two looks at one; the images of a pair change places anew, as often as not.

    Args:
        real: The pool of real images.
        synthetic: The pool of synthetic images.
        out: A new or empty folder.
        kind: "2afc" shows two images, one of them real; "single" shows one, half of them real.
        trials: In each presentation; even for "single".
        readers: How many, or their names.
        presentations: How often each reader answers each trial.
        seed: Of what is drawn. Names of images and links are secret and no function of it.
        match: The columns by which the pools are matched.
        size: The longer side in pixels, for pools that differ in size.
        smooth: Interpolate enlarged images instead of showing each pixel as a square.
        leave_out: Leave out strata that one pool lacks, instead of refusing them.
        title: What readers see above the images.

    Raises:
        StudyError: If the study cannot be drawn as asked, or the folder holds something.
    """
    names = reader_names(readers)
    title = _word("title", title)
    identity = {
        "real": fingerprint(real), "synthetic": fingerprint(synthetic), "kind": kind,
        "trials": trials, "readers": names, "presentations": presentations, "seed": seed,
        "match": list(match), "size": size, "smooth": smooth, "leave_out": leave_out,
        "title": title,
    }  # fmt: skip
    result = ResultFolder(Path(out), "causalcxr study", "a study", identity, error=StudyError)
    _check(result, kind, trials, presentations)
    rng = np.random.default_rng([seed, 0])
    pairs = trials if kind == "2afc" else trials // 2
    drawn = draw_pairs(real, synthetic, pairs, rng, match=match, size=size, leave_out=leave_out)
    tokens = [[secrets.token_hex(12) for _ in range(pairs)] for _ in range(2)]
    files = {
        token: _png(film)
        for names_of, films in zip(tokens, drawn.films, strict=True)
        for token, film in zip(names_of, films, strict=True)
    }
    questions = _trials(kind, drawn, tokens, rng)
    plan = Plan(
        kind,
        title,
        seed,
        tuple(match),
        drawn.films[0].shape[1:],
        smooth,
        tuple(questions),
        tuple(
            drawn_reader(k, name, questions, presentations, seed) for k, name in enumerate(names)
        ),
        {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)},
        _about(real, synthetic, drawn),
    )
    return _write(result, plan, files)


def reader_names(readers: int | Sequence[str]) -> list[str]:
    """Return the names of readers, checked; a number gives "Reader 1" and so on.

    Example:
        >>> reader_names(2), reader_names(["Ada ", "Ben"])
        (['Reader 1', 'Reader 2'], ['Ada', 'Ben'])
    """
    if isinstance(readers, int):
        _within("readers", readers)
        return [f"Reader {k + 1}" for k in range(readers)]
    names = [_word("reader", name) for name in readers]
    _within("readers", len(names))
    if twice := [name for name in names if names.count(name) > 1]:
        raise StudyError(f"reader {twice[0]!r} is named twice; give every reader another name")
    return names


def _check(result: ResultFolder, kind: str, trials: int, presentations: int) -> None:
    if kind not in KINDS:
        hint = nearest(kind, KINDS)
        raise StudyError(f"kind {kind!r} is none of {', '.join(KINDS)}{hint}")
    _within("trials", trials)
    _within("presentations", presentations)
    if kind == "single" and trials % 2:
        raise StudyError(f"trials {trials}: half of single images are real; give an even number")
    out = result.path
    free = not out.is_symlink() and (not out.exists() or (out.is_dir() and not any(out.iterdir())))
    if not free and not result.is_same():
        raise StudyError(f"{out}: holds something already; give a new folder for the study")


def _within(what: str, number: int) -> None:
    if not 1 <= number <= _MOST[what]:
        raise StudyError(f"{what} {number}: give 1 to {_MOST[what]:,}")


def _word(what: str, text: str) -> str:
    """Return a text for people to read: one line, printable, no formula of a spreadsheet."""
    text = text.strip()
    strange = [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    if not 1 <= len(text) <= 80 or strange or text.startswith(_FORMULA):
        raise StudyError(
            f"{what} {text[:80]!r}: give 1 to 80 printable characters on one line that do not "
            f"begin with {' '.join(_FORMULA)}"
        )
    return text


def _trials(
    kind: str, drawn: Drawn, tokens: list[list[str]], rng: np.random.Generator
) -> list[Trial]:
    """Return the trials; of two images, the real one stands first in half of them."""
    if kind == "single":
        return [
            Trial((tokens[k][i],), (k == 0,), (drawn.records[k][i],), drawn.strata[i])
            for i in range(len(drawn.strata))
            for k in (0, 1)
        ]
    # Pairs are matched within a stratum only; the draw itself shuffled them within it.
    trials = []
    for i, first in enumerate(_halves(len(drawn.strata), rng)):
        order = (1, 0) if first else (0, 1)
        images, records = (tuple(each[k][i] for k in order) for each in (tokens, drawn.records))
        trials.append(Trial(images, tuple(k == 0 for k in order), records, drawn.strata[i]))
    return trials


def drawn_reader(
    number: int, name: str, trials: Sequence[Trial], presentations: int, seed: int
) -> Reader:
    """Return what one reader is shown: orders, and which pairs change places.

    Args:
        number: Which reader, counted from 0; each has orders of their own.
        name: What the reader is called.
        trials: The questions.
        presentations: How many.
        seed: Of the orders; the token is secret and no function of it.
    """
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
    """Return which pairs are turned, so that the real image is first in half of what is shown."""
    if len(trials[0].images) == 1:
        return [False] * len(trials)
    first = _halves(len(trials), rng)
    return [wanted != trial.real[0] for wanted, trial in zip(first, trials, strict=True)]


def _halves(n: int, rng: np.random.Generator) -> list[bool]:
    """Return n shuffled truth values, half of them true; of odd n, one more or one fewer."""
    many = n // 2 + (int(rng.integers(2)) if n % 2 else 0)
    return (rng.permutation(n) < many).tolist()


def _png(film: np.ndarray) -> bytes:
    """Return an 8-bit grey PNG with nothing in it but the pixels."""
    content = io.BytesIO()
    Image.fromarray(film).save(content, format="PNG")
    return content.getvalue()


def _about(real: Cohort, synthetic: Cohort, drawn: Drawn) -> dict[str, object]:
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
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return {"version": version("causalcxr"), "made": made, "pools": pools}


def _write(result: ResultFolder, plan: Plan, files: dict[str, bytes]) -> Plan:
    """Write a study, whole or not at all, and return the plan that is there at the end."""
    with result.writing() as draft:
        if draft.complete:
            return Plan.load(result.path)
        place = draft.place
        # What a kill has left belongs to images of other names: they are secret, and drawn anew.
        shutil.rmtree(place / IMAGES, ignore_errors=True)
        for name in sorted(files):  # in the order of random names: times of files tell nothing
            atomic_write(place / IMAGES / f"{name}.png", files[name])
        (place / "answers").mkdir(exist_ok=True)
        atomic_write(place / PLAN, plan.to_json())
        (place / PLAN).chmod(0o600)  # it holds the truth and the links
        draft.finish({})
    return plan
