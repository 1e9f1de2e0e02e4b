"""Matched pairs of images, drawn from a real and a synthetic pool."""

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

__all__ = ["DrawnPairs", "draw_pairs", "image_size"]

_NAMES = ("real", "synthetic")
_COMPARED = 1000  # images of each pool, beyond those drawn, that are compared with the other pool
_BLOCK = 64
_SMALLEST = 16  # pixels


@dataclass(frozen=True)
class DrawnPairs:
    """Hold the drawn images, real and synthetic.

    Args:
        images: Real and synthetic images, (m, H, W) uint8 each.
        records: The record of each image, as text.
        strata: The values that each pair is matched by, one mapping for each pair.
        compared: The number of images of each pool that were compared with the other pool.
    """

    images: tuple[np.ndarray, np.ndarray]
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
) -> DrawnPairs:
    """Draw equal numbers of real and synthetic images in every stratum, at most one per patient.

    The share of a stratum is proportional to the number of pairs it could give.

    Args:
        real: The real images.
        synthetic: The synthetic images.
        pairs: The number of pairs.
        rng: The random generator.
        match: The columns that define the strata.
        size: The longer side in pixels, for pools that differ in size; images only shrink.
        leave_out: Leave out strata that one pool lacks, instead of refusing them.

    Raises:
        StudyError: If there are too few images, a stratum is missing from one pool, an image is
            constant, or an image occurs twice or in both pools.
    """
    shape = image_size(real, synthetic, size)
    pools = list(zip((real, synthetic), _NAMES, strict=True))
    # Candidates in random order, one image a patient, with their stratum.
    keys = [_candidates(cohort, match, name, rng) for cohort, name in pools]
    counts = [each.value_counts() for each in keys]
    room = _room(*counts, match, leave_out)
    if pairs > room.sum():
        raise StudyError(
            f"{pairs} real and {pairs} synthetic images are needed, and {room.sum()} of each can "
            f"be matched{_by(match)}, one per patient; use fewer trials or larger pools"
        )
    # Both pools give the same number in each stratum.
    quota = _shares(room, pairs)
    rows = [_first(each, quota) for each in keys]
    # Read only what was drawn, and refuse equal images.
    images, hashes = [], []
    for (cohort, name), row in zip(pools, rows, strict=True):
        images.append(_read_images(cohort, row, shape, name))
        hashes.append(_distinct(images[-1], cohort, row, name))
    compared = _apart((real, synthetic), rows, hashes, shape, rng)
    strata = [dict(zip(match, json.loads(key), strict=True)) for key in keys[0].loc[rows[0]]]
    records = tuple(
        [str(cohort.records[k]) for k in row] for (cohort, _), row in zip(pools, rows, strict=True)
    )
    return DrawnPairs(tuple(images), records, strata, compared)


def image_size(real: Cohort, synthetic: Cohort, size: int | None = None) -> tuple[int, int]:
    """Return the height and width at which both pools are shown.

    Raises:
        StudyError: If a pool has no images, the sizes differ and none is given, or images would
            have to be enlarged or distorted.
    """
    for cohort, name in ((real, "real"), (synthetic, "synthetic")):
        if not cohort.has_images:
            raise StudyError(f"{name} pool: {cohort!r} has no images; give one with images")
    # Both pools at one size: the size itself would reveal the pool.
    sizes = [cohort.images.size for cohort in (real, synthetic)]
    both = " and ".join(f"{h}x{w} ({name})" for (h, w), name in zip(sizes, _NAMES, strict=True))
    largest = min(max(shape) for shape in sizes)
    if size is None:
        if sizes[0] != sizes[1]:
            raise StudyError(
                f"images of {both}: the size would reveal the pool; give the longer side with "
                f"--size, at most {largest}"
            )
        return sizes[0]
    if not _SMALLEST <= size <= largest:
        raise StudyError(
            f"--size {size}: images of {both} can only be reduced, to at least {_SMALLEST}; an "
            "enlarged image is blurred, which would reveal its pool"
        )
    shapes = {tuple(max(1, round(side * size / max(shape))) for side in shape) for shape in sizes}
    if len(shapes) > 1:
        raise StudyError(f"images of {both} differ in their proportions; crop one pool first")
    return shapes.pop()


def _candidates(
    cohort: Cohort, match: Sequence[str], name: str, rng: np.random.Generator
) -> pd.Series:
    """Return the strata (JSON lists) of usable rows in random order, one row per patient."""
    table = cohort.table
    keys = pd.DataFrame({column: _column(table, column, name) for column in match})
    keys.index = pd.RangeIndex(len(table))
    kind = _of_its_kind(cohort, name)
    usable = np.flatnonzero(kind & keys.notna().all(axis=1).to_numpy())
    # After shuffling, the first image of each patient is a random one.
    order = rng.permutation(usable)
    patients = cohort.patients.to_numpy()[order]
    order = order[~pd.Series(patients).duplicated().to_numpy()]
    texts = keys.iloc[order].map(spelled)  # 1 in one pool equals 1.0 in the other
    return pd.Series([json.dumps(row) for row in texts.to_numpy().tolist()], order, dtype=object)


def _of_its_kind(cohort: Cohort, name: str) -> np.ndarray:
    """Return which images a pool may give, (n,): those of its own kind if it has any.

    A pool of twins may hold patients' own radiographs, where no parent changed. A pool that holds
    only the other kind is used as it is, as phantoms are for real images in a trial run.
    """
    images = cohort.images
    own = images.available & (images.synthetic == (name == "synthetic"))
    return own if own.any() else images.available


def _column(table: pd.DataFrame, name: str, pool: str) -> pd.Series:
    by_name = {str(c).lower().replace("_", " "): c for c in table.columns}
    column = by_name.get(name.lower().replace("_", " "))
    if column is None:
        hint = nearest(name, map(str, table.columns)) or "; --match '' disables matching"
        raise StudyError(f"{pool} pool: no column {name!r} to match by{hint}")
    return table[column].reset_index(drop=True)


def _room(
    real: pd.Series, synthetic: pd.Series, match: Sequence[str], leave_out: bool
) -> pd.Series:
    """Return the number of pairs that each stratum can give, in a fixed order."""
    for here, there, name, other in (
        (real, synthetic, "real", "synthetic"),
        (synthetic, real, "synthetic", "real"),
    ):
        # Strata that only one pool has cannot be matched.
        alone = sorted(set(here.index) - set(there.index))
        if alone and not leave_out:
            values = zip(match, json.loads(alone[0]), strict=True)
            words = ", ".join(f"{column}={value[:60]}" for column, value in values)
            raise StudyError(
                f"{name} pool: {here[alone[0]]} images have {words}, but no {other} image has; "
                "filter the pools or use --leave-out"
            )
    # Sorted, so that the result does not depend on the order of the records.
    both = sorted(set(real.index) & set(synthetic.index))
    room = [min(real[key], synthetic[key]) for key in both]
    return pd.Series(room, index=both, dtype=np.int64)


def _shares(room: pd.Series, pairs: int) -> pd.Series:
    """Distribute pairs over strata in proportion to their room, by largest remainders."""
    exact = room * (pairs / room.sum())
    # The small number keeps whole numbers whole after rounding.
    quota = np.floor(exact + 1e-9).astype(np.int64)
    left = pairs - quota.sum()
    largest = np.argsort(-(exact - quota).to_numpy(), kind="stable")[:left]
    quota.iloc[largest] += 1
    return quota


def _first(keys: pd.Series, quota: pd.Series) -> np.ndarray:
    """Return the first rows of each stratum, stratum by stratum."""
    rows = [keys.index[(keys == key).to_numpy()][:n] for key, n in quota.items()]
    return np.concatenate(rows).astype(np.int64)


def _by(match: Sequence[str]) -> str:
    return f" by {', '.join(match)}" if match else ""


# Pixels


def _read_images(
    cohort: Cohort, rows: np.ndarray, shape: tuple[int, int], name: str
) -> np.ndarray:
    """Return images as 8-bit grey values, none of them constant."""
    images = np.concatenate([block for _, block in _blocks(cohort, rows, shape)])
    flat = images.reshape(len(images), -1)
    constant = np.flatnonzero(flat.min(axis=1) == flat.max(axis=1))
    if len(constant):
        record = brief(cohort.records[rows[constant[0]]])
        raise StudyError(f"{name} pool: the image of record {record} is constant; leave it out")
    return images


def _blocks(
    cohort: Cohort, rows: np.ndarray, shape: tuple[int, int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        images = cohort.images[part][:, 0]
        if images.shape[1:] != shape:
            images = np.stack([resized(image, shape) for image in images]) / 65535
        yield part, np.rint(images.astype(np.float64) * 255).astype(np.uint8)
        cohort.images.forget()


def _hashes(images: np.ndarray) -> list[bytes]:
    return [hashlib.sha256(image.tobytes()).digest() for image in images]


def _distinct(images: np.ndarray, cohort: Cohort, rows: np.ndarray, name: str) -> list[bytes]:
    hashes = _hashes(images)
    repeated = np.flatnonzero(pd.Series(hashes).duplicated())
    if len(repeated):
        first = brief(cohort.records[rows[hashes.index(hashes[repeated[0]])]])
        second = brief(cohort.records[rows[repeated[0]]])
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
    """Refuse an image that is in both pools; return how many were compared."""
    compared = []
    for here, other in ((0, 1), (1, 0)):
        # By digest of the pixels at the common size.
        by_hash = dict(zip(hashes[other], rows[other], strict=True))
        drawn = zip(rows[here], hashes[here], strict=True)
        # The drawn images of this pool and some more, against those drawn from the other.
        rest = np.setdiff1d(np.flatnonzero(cohorts[here].images.available), rows[here])
        more = np.sort(rng.permutation(rest)[:_COMPARED])
        blocks = _blocks(cohorts[here], more, shape)
        others = (
            (row, h)
            for part, images in blocks
            for row, h in zip(part, _hashes(images), strict=True)
        )
        for row, digest in chain(drawn, others):
            if digest in by_hash:
                first, second = cohorts[here].records[row], cohorts[other].records[by_hash[digest]]
                raise StudyError(
                    f"the pools overlap: record {brief(first)} of the {_NAMES[here]} and record "
                    f"{brief(second)} of the {_NAMES[other]} pool have the same pixels; remove one"
                )
        compared.append(len(rows[here]) + len(more))
    return tuple(compared)
