"""Random numbers that belong to a record, not to a batch.

A counter-based hash of (seed, stream, record, draw, counter) gives every record its own numbers,
for a column at once. The same record gets the same numbers in any batch, in any order, on any
machine. The mixing function is the 64-bit finaliser of SplitMix64 (Steele, Lea & Flood, 2014),
applied once for each word.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import ndtri

__all__ = ["Draws", "record_keys", "stable_hash"]

# The step of SplitMix64: 2**64 divided by the golden ratio, an odd number.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: np.ndarray) -> np.ndarray:
    """Mix 64-bit words; overflow is intended."""
    with np.errstate(over="ignore"):
        z = z + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def stable_hash(text: str) -> np.uint64:
    """Return 64 bits of the SHA-256 of a text, the same on every machine."""
    return np.uint64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def record_keys(index: pd.Index) -> np.ndarray:
    """Return one 64-bit key a record, from its identifier alone.

    Integers and texts of the same digits get the same key, so a table read back from CSV keeps its
    noise.

    Example:
        >>> bool((record_keys(pd.Index([7, 8])) == record_keys(pd.Index(["7", "8"]))).all())
        True
    """
    return pd.util.hash_array(index.astype(str).to_numpy(dtype=object), categorize=False)


@dataclass(frozen=True)
class Draws:
    """The random numbers of a column of records.

    Args:
        keys: One 64-bit key a record, shape (n,), see `record_keys`.
        seed: The user's seed.
        stream: The purpose of the numbers, usually a variable's name.
        draw: The index of the posterior draw, one for all or one a record.

    Example:
        >>> keys = record_keys(pd.Index(["a", "b", "c"]))
        >>> both = Draws(keys, seed=0, stream="Sex").uniform()
        >>> alone = Draws(keys[1:2], seed=0, stream="Sex").uniform()
        >>> bool(both[1, 0] == alone[0, 0])
        True
    """

    keys: np.ndarray
    seed: int = 0
    stream: str = ""
    draw: int | np.ndarray = 0

    def __len__(self) -> int:
        return len(self.keys)

    def on(self, stream: str) -> "Draws":
        """Return the numbers of the same records for another purpose."""
        return replace(self, stream=stream)

    def rows(self, rows: np.ndarray | slice) -> "Draws":
        """Return the numbers of some of the records."""
        draw = self.draw[rows] if isinstance(self.draw, np.ndarray) else self.draw
        return replace(self, keys=self.keys[rows], draw=draw)

    def states(self) -> np.ndarray:
        """Return 64 bits that stand for (record, seed, stream, draw), shape (n,), uint64."""
        # The zero byte keeps seed 1 with stream "2x" apart from seed 12 with stream "x".
        stream = stable_hash(f"{self.seed}\0{self.stream}")
        draw = np.asarray(self.draw, dtype=np.int64).astype(np.uint64)
        # The draw is mixed on its own first, as consecutive draws differ in few bits.
        return _mix(_mix(self.keys ^ stream) ^ _mix(np.atleast_1d(draw)))

    def uniform(self, k: int = 1) -> np.ndarray:
        """Return k numbers a record, strictly between 0 and 1, shape (n, k), float64."""
        with np.errstate(over="ignore"):
            # The counters are spread over all 64 bits, as they are small numbers.
            counter = np.arange(1, k + 1, dtype=np.uint64) * _GOLDEN
            bits = _mix(_mix(self.states()[:, None] ^ counter[None, :]))
        # 52 bits and a half step: neither 0 nor 1 occurs, so that `ndtri` and `log` stay finite.
        return ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52

    def normal(self, k: int = 1) -> np.ndarray:
        """Return k standard normal numbers a record, shape (n, k), float64."""
        return ndtri(self.uniform(k))

    def gumbel(self, k: int = 1) -> np.ndarray:
        """Return k standard Gumbel numbers a record, shape (n, k), float64."""
        return -np.log(-np.log(self.uniform(k)))
