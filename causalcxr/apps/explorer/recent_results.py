"""A thread-safe cache of recent results."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

__all__ = ["RecentResults"]

_T = TypeVar("_T")


class RecentResults:
    """Keep recent results by key; the least recently used one is dropped first.

    Args:
        most: How many are kept.

    Example:
        >>> results = RecentResults(2)
        >>> [results.get(key, lambda: key.upper()) for key in "abc"]
        ['A', 'B', 'C']
        >>> results.find("a") is None
        True
    """

    def __init__(self, most: int) -> None:
        self._most, self._results = most, OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: Hashable) -> Any:
        """Return the result of a key, or None."""
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
            return self._results.get(key)

    def put(self, key: Hashable, value: Any) -> None:
        """Keep a result."""
        with self._lock:
            self._results[key] = value
            while len(self._results) > self._most:
                self._results.popitem(last=False)

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return the result of a key; compute and keep it if it is absent."""
        result = self.find(key)
        if result is None:  # two threads may both compute it, rarely and with equal results
            result = make()
            self.put(key, result)
        return result
