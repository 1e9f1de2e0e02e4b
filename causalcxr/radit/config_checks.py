"""Checks of the fields of a training configuration, with one wording for their errors."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from causalcxr.common.errors import MechanismError, nearest

__all__ = ["check_choices", "check_fractions", "check_least", "check_not_negative"]


def check_least(config: object, least: Mapping[str, int]) -> None:
    """Check that fields are at least some number.

    Raises:
        MechanismError: Naming the first field that is not.
    """
    for name, number in least.items():
        _check(config, name, f"at least {number}", lambda value, n=number: value >= n)


def check_not_negative(config: object, names: Iterable[str], *, zero: bool = True) -> None:
    """Check that fields are finite and at least 0, or more than 0 without `zero`.

    Raises:
        MechanismError: Naming the first field that is not.
    """
    rule = "0 or more" if zero else "more than 0"
    for name in names:
        _check(config, name, rule, lambda v: 0 <= v < float("inf") and (zero or v > 0))


def check_fractions(config: object, names: Iterable[str]) -> None:
    """Check that fields are between 0 and 1.

    Raises:
        MechanismError: Naming the first field that is not.
    """
    for name in names:
        _check(config, name, "0 to 1", lambda value: 0 <= value <= 1)


def check_choices(config: object, choices: Mapping[str, Sequence[str]]) -> None:
    """Check that fields are one of some words.

    Raises:
        MechanismError: Naming the first field that is not, and the nearest word.
    """
    for name, words in choices.items():
        rule = f"{' or '.join(words)}{nearest(getattr(config, name), words)}"
        _check(config, name, rule, lambda value, words=words: value in words)


def _check(config: object, name: str, rule: str, holds: Callable[[Any], bool]) -> None:
    value = getattr(config, name)
    if not holds(value):
        raise MechanismError(f"training: {name} is {value!r}; expected {rule}")
