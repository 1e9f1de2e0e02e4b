"""The fingerprint of a cohort: a hash of everything that results may depend on."""

import hashlib
import json

import pandas as pd

from causalcxr.cohort.cohort import Cohort

__all__ = ["fingerprint"]


def fingerprint(cohort: Cohort) -> str:
    """Return the SHA-256 of a cohort's records, patients, splits, table, images and source.

    Images in files enter by their digests, or else by names, sizes and dates; computed images by
    what determines them.

    Args:
        cohort: Any cohort.

    Example:
        >>> one = Cohort(pd.DataFrame({"Age": [61, 47]}))
        >>> fingerprint(one) == fingerprint(Cohort(pd.DataFrame({"Age": [61, 47]})))
        True
        >>> fingerprint(one) == fingerprint(one.head(1))
        False
    """
    table = cohort.table
    # Names, ids and cells, missing words, images: their order is part of the hash.
    words = [cohort.source, cohort.notes, [str(name) for name in table]]
    digest = hashlib.sha256(json.dumps(words).encode("utf-8", "surrogateescape"))
    ids = [values for values in (cohort.patients, cohort.splits) if values is not None]
    for each in [*ids, *(column for _, column in table.items())]:
        try:
            hashed = pd.util.hash_pandas_object(each, index=True)
        except TypeError:  # lists and other values that have no hash
            hashed = pd.util.hash_pandas_object(each.map(repr), index=True)
        digest.update(hashed.to_numpy().tobytes())
    for name, column in cohort.words.items():
        digest.update(f"{name}\0{list(column)}".encode("utf-8", "surrogateescape"))
    if cohort.images is not None:
        digest.update(cohort.images.fingerprint().encode())
    return digest.hexdigest()
