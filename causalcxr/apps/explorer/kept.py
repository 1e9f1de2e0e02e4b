"""What was asked for last, kept by key; several threads may ask."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

__all__ = ["Kept"]

_T = TypeVar("_T")


class Kept:
    """Keep what was asked for last, and let go of what nobody asked for the longest.

    Args:
        most: How many are kept.

    Example:
        >>> kept = Kept(2)
        >>> [kept.get(key, lambda: key.upper()) for key in "abc"]
        ['A', 'B', 'C']
        >>> kept.find("a") is None
        True
    """

    def __init__(self, most: int) -> None:
        self._most, self._found = most, OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: Hashable) -> Any:
        """Return what is kept under a key, or None."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def put(self, key: Hashable, value: Any) -> None:
        """Keep something."""
        with self._lock:
            self._found[key] = value
            while len(self._found) > self._most:
                self._found.popitem(last=False)

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return what is kept under a key; it is made where it is not there."""
        found = self.find(key)
        if found is None:  # two threads may both make it: the same, and seldom
            found = make()
            self.put(key, found)
        return found
