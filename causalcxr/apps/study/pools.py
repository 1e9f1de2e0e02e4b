"""Two pools of images, real and synthetic, and the matched images that a study draws from them."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas as pd

from causalcxr.cohort.cells import spelled
from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import StudyError, brief, nearest
from causalcxr.images.pixels import resized

__all__ = ["Drawn", "draw_pairs", "film_size"]

_NAMES = ("real", "synthetic")
_COMPARED = 1000  # images of each pool, beyond those drawn, that are compared with the other pool
_BLOCK = 64
_SMALLEST = 16  # pixels


@dataclass(frozen=True)
class Drawn:
    """Hold the images that were drawn, real and synthetic side by side.

    Args:
        films: Real and synthetic images, (m, H, W) uint8 each.
        records: The record of each image, as text.
        strata: What each pair is matched by, one mapping a pair.
        compared: How many images of each pool were compared with the other pool.
    """

    films: tuple[np.ndarray, np.ndarray]
    records: tuple[list[str], list[str]]
    strata: list[dict[str, str]]
    compared: tuple[int, int]


def draw_pairs(
    real: Cohort,
    synthetic: Cohort,
    pairs: int,
    rng: np.random.Generator,
    *,
    match: Sequence[str] = ("View",),
    size: int | None = None,
    leave_out: bool = False,
) -> Drawn:
    """Draw as many real as synthetic images in every stratum, one image a patient at most.

    The strata get shares in proportion to how many pairs they could give.

    Args:
        real: The real images.
        synthetic: The synthetic ones.
        pairs: How many of each.
        rng: Draws them.
        match: The columns that make the strata.
        size: The longer side in pixels, for pools that differ in size; images only shrink.
        leave_out: Leave out strata that one pool lacks, instead of refusing them.

    Raises:
        StudyError: If there are too few images, a stratum of one pool is none of the other, an
            image is constant, or an image occurs twice or in both pools.
    """
    shape = film_size(real, synthetic, size)
    pools = list(zip((real, synthetic), _NAMES, strict=True))
    keys = [_candidates(cohort, match, name, rng) for cohort, name in pools]
    counts = [each.value_counts() for each in keys]
    room = _room(*counts, match, leave_out)
    if pairs > room.sum():
        raise StudyError(
            f"{pairs} real and {pairs} synthetic images are needed, and {room.sum()} of each can "
            f"be matched{_by(match)}, one a patient; ask for fewer trials or give larger pools"
        )
    quota = _shares(room, pairs)
    rows = [_first(each, quota) for each in keys]
    films, hashes = [], []
    for (cohort, name), row in zip(pools, rows, strict=True):
        films.append(_films(cohort, row, shape, name))
        hashes.append(_distinct(films[-1], cohort, row, name))
    compared = _apart((real, synthetic), rows, hashes, shape, rng)
    strata = [dict(zip(match, json.loads(key), strict=True)) for key in keys[0].loc[rows[0]]]
    records = tuple(
        [str(cohort.records[k]) for k in row] for (cohort, _), row in zip(pools, rows, strict=True)
    )
    return Drawn(tuple(films), records, strata, compared)


def film_size(real: Cohort, synthetic: Cohort, size: int | None = None) -> tuple[int, int]:
    """Return the height and width in which both pools can be shown.

    Raises:
        StudyError: If a pool has no images, the sizes differ and none is given, or images would
            have to be enlarged or distorted.
    """
    for cohort, name in ((real, "real"), (synthetic, "synthetic")):
        if not cohort.has_images:
            raise StudyError(f"{name} pool: {cohort!r} has no images; give a cohort that has")
    sizes = [cohort.images.size for cohort in (real, synthetic)]
    told = " and ".join(f"{h}x{w} ({name})" for (h, w), name in zip(sizes, _NAMES, strict=True))
    if size is None:
        if sizes[0] != sizes[1]:
            raise StudyError(
                f"images of {told}: the size would tell them apart; give the longer side with "
                f"--size, {min(max(each) for each in sizes)} at most"
            )
        return sizes[0]
    if not _SMALLEST <= size <= min(max(each) for each in sizes):
        raise StudyError(
            f"--size {size}: images of {told} can only shrink, to {_SMALLEST} at least; an "
            "enlarged image is blurred, which would tell it apart"
        )
    shapes = {tuple(max(1, round(side * size / max(each))) for side in each) for each in sizes}
    if len(shapes) > 1:
        raise StudyError(f"images of {told} differ in their proportions; crop one pool first")
    return shapes.pop()


def _candidates(
    cohort: Cohort, match: Sequence[str], name: str, rng: np.random.Generator
) -> pd.Series:
    """Return the strata (JSON lists) of usable rows in drawn order, one row a patient."""
    table = cohort.table
    keys = pd.DataFrame({column: _column(table, column, name) for column in match})
    keys.index = pd.RangeIndex(len(table))
    kind = _of_its_kind(cohort, name)
    usable = np.flatnonzero(kind & keys.notna().all(axis=1).to_numpy())
    order = rng.permutation(usable)
    patients = cohort.patients.to_numpy()[order]
    order = order[~pd.Series(patients).duplicated().to_numpy()]
    texts = keys.iloc[order].map(spelled)  # 1 in one pool is 1.0 in the other
    return pd.Series([json.dumps(row) for row in texts.to_numpy().tolist()], order, dtype=object)


def _of_its_kind(cohort: Cohort, name: str) -> np.ndarray:
    """Return the images that a pool may give, (n,): of one that holds both kinds, its own kind.

    A pool of twins may hold patients' own radiographs, where nothing changed. A pool all of the
    other kind stands in for its own, as phantoms do for real images in a rehearsal.
    """
    images = cohort.images
    own = images.available & (images.synthetic == (name == "synthetic"))
    return own if own.any() else images.available


def _column(table: pd.DataFrame, name: str, pool: str) -> pd.Series:
    by_name = {str(c).lower().replace("_", " "): c for c in table.columns}
    found = by_name.get(name.lower().replace("_", " "))
    if found is None:
        hint = nearest(name, map(str, table.columns)) or "; --match '' matches by nothing"
        raise StudyError(f"{pool} pool: no column {name!r} to match by{hint}")
    return table[found].reset_index(drop=True)


def _room(
    real: pd.Series, synthetic: pd.Series, match: Sequence[str], leave_out: bool
) -> pd.Series:
    """Return how many pairs each stratum can give, in a fixed order."""
    for here, there, name, other in (
        (real, synthetic, "real", "synthetic"),
        (synthetic, real, "synthetic", "real"),
    ):
        alone = sorted(set(here.index) - set(there.index))
        if alone and not leave_out:
            values = zip(match, json.loads(alone[0]), strict=True)
            words = ", ".join(f"{column}={value[:60]}" for column, value in values)
            raise StudyError(
                f"{name} pool: {here[alone[0]]} images have {words}, and no {other} image has; "
                "filter the pools or give --leave-out"
            )
    both = sorted(set(real.index) & set(synthetic.index))
    room = [min(real[key], synthetic[key]) for key in both]
    return pd.Series(room, index=both, dtype=np.int64)


def _shares(room: pd.Series, pairs: int) -> pd.Series:
    """Share pairs out in proportion to the room, by largest remainders."""
    exact = room * (pairs / room.sum())
    whole = np.floor(exact + 1e-9).astype(np.int64)
    left = pairs - whole.sum()
    most = np.argsort(-(exact - whole).to_numpy(), kind="stable")[:left]
    whole.iloc[most] += 1
    return whole


def _first(keys: pd.Series, quota: pd.Series) -> np.ndarray:
    """Return the rows drawn first in each stratum, stratum by stratum."""
    taken = [keys.index[(keys == key).to_numpy()][:n] for key, n in quota.items()]
    return np.concatenate(taken).astype(np.int64)


def _by(match: Sequence[str]) -> str:
    return f" by {', '.join(match)}" if match else ""


# Pixels


def _films(cohort: Cohort, rows: np.ndarray, shape: tuple[int, int], name: str) -> np.ndarray:
    """Return images as 8-bit grey values, none of them constant."""
    films = np.concatenate([each for _, each in _blocks(cohort, rows, shape)])
    flat = films.reshape(len(films), -1)
    constant = np.flatnonzero(flat.min(axis=1) == flat.max(axis=1))
    if len(constant):
        record = brief(cohort.records[rows[constant[0]]])
        raise StudyError(f"{name} pool: the image of record {record} is constant; leave it out")
    return films


def _blocks(
    cohort: Cohort, rows: np.ndarray, shape: tuple[int, int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        films = cohort.images[part][:, 0]
        if films.shape[1:] != shape:
            films = np.stack([resized(film, shape) for film in films]) / 65535
        yield part, np.rint(films.astype(np.float64) * 255).astype(np.uint8)
        cohort.images.forget()


def _hashes(films: np.ndarray) -> list[bytes]:
    return [hashlib.sha256(film.tobytes()).digest() for film in films]


def _distinct(films: np.ndarray, cohort: Cohort, rows: np.ndarray, name: str) -> list[bytes]:
    hashes = _hashes(films)
    twice = np.flatnonzero(pd.Series(hashes).duplicated())
    if len(twice):
        first = brief(cohort.records[rows[hashes.index(hashes[twice[0]])]])
        second = brief(cohort.records[rows[twice[0]]])
        raise StudyError(
            f"{name} pool: records {first} and {second} have the same pixels; drop one of them"
        )
    return hashes


def _apart(
    cohorts: tuple[Cohort, Cohort],
    rows: Sequence[np.ndarray],
    hashes: Sequence[list[bytes]],
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[int, int]:
    """Refuse an image of one pool that the other holds too; return how many were compared."""
    compared = []
    for here, other in ((0, 1), (1, 0)):
        known = dict(zip(hashes[other], rows[other], strict=True))
        found = zip(rows[here], hashes[here], strict=True)
        rest = np.setdiff1d(np.flatnonzero(cohorts[here].images.available), rows[here])
        more = np.sort(rng.permutation(rest)[:_COMPARED])
        blocks = _blocks(cohorts[here], more, shape)
        others = (
            (row, h) for part, films in blocks for row, h in zip(part, _hashes(films), strict=True)
        )
        for row, each in chain(found, others):
            if each in known:
                mine, twin = cohorts[here].records[row], cohorts[other].records[known[each]]
                raise StudyError(
                    f"the pools overlap: record {brief(mine)} of the {_NAMES[here]} and record "
                    f"{brief(twin)} of the {_NAMES[other]} pool have the same pixels; keep the "
                    "pools apart"
                )
        compared.append(len(rows[here]) + len(more))
    return tuple(compared)
