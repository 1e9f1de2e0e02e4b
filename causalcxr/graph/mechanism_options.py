"""The options of each kind of equation with their defaults: the one list that all code reads.

It stands here, without torch, so that a graph is checked in milliseconds, before anything learns.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["BUILT_IN", "KINDS", "ODE_OPTIONS", "OPTIONS", "REAL", "NumberOr", "option_defaults"]

# The kinds of equation that each type of variable can have, the built-in choice first.
KINDS = {
    "continuous": ("flow", "empirical"),
    "binary": ("discrete", "derived", "empirical"),
    "ordinal": ("discrete", "flow", "empirical"),
    "categorical": ("discrete", "empirical"),
    "image": ("radit",),
}
REAL = "a finite number"
ODE_OPTIONS = ("training", "solver", "ode_steps")  # of transform: cnf


@dataclass(frozen=True)
class NumberOr:
    """The rule of an option that is a positive number, or one word; None if it is left out.

    Args:
        word: The word.
    """

    word: str

    def allows(self, value: Any) -> bool:
        """Return whether a graph may write this value.

        Example:
            >>> NumberOr("calibrated").allows("calibrated"), NumberOr("calibrated").allows(-1)
            (True, False)
        """
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return value == self.word or (is_number and 0 < value < float("inf"))

    def __str__(self) -> str:
        return f"a positive number or {self.word}"


class _Option(NamedTuple):
    """What a graph may write, and what is used where it writes nothing."""

    # The words to choose from, int (at least 1), float (positive), REAL, str or a NumberOr.
    rule: Any
    default: Any  # None for a number that may be left out


def _words(*words: str) -> _Option:
    return _Option(words, words)  # the first is the default


def _training(epochs: int, patience: int, lr: float) -> dict[str, _Option]:
    return {
        "hidden": _Option(int, 32),
        "epochs": _Option(int, epochs),
        "patience": _Option(int, patience),
        "batch": _Option(int, 4096),
        "lr": _Option(float, lr),
    }


_CALIBRATED = NumberOr("calibrated")
_BUILT_IN_OPTIONS: dict[str, dict[str, _Option]] = {
    "flow": {
        "transform": _words("spline", "cnf"),
        "bins": _Option(int, 16),
        "training": _words("likelihood", "matching"),
        "solver": _words("midpoint", "rk4", "heun3", "euler", "reversible"),
        "ode_steps": _Option(int, 4),
        **_training(epochs=30, patience=6, lr=0.005),
    },
    "discrete": {
        "coupling": _words("monotone", "gumbel", "ot", "dequantised", "independent"),
        **_training(epochs=15, patience=4, lr=0.01),
    },
    "derived": {
        "rule": _words("none_of", "any_of", "at_least", "below"),
        "threshold": _Option(REAL, None),
    },
    "empirical": {},
    "radit": {
        "size": _words("tiny", "mini", "S", "B", "L", "XL"),
        "resolution": _Option(int, 64),
        "height": _Option(int, 0),  # that of `resolution`
        "weights": _Option(str, ""),
        "codec": _Option(str, ""),
        "steps": _Option(int, 6000),
        "batch": _Option(int, 32),
        "lr": _Option(float, 2e-3),
        "pairing": _words("none", "ot"),
        "method": _words("reversible", "leapfrog", "midpoint", "heun", "euler"),
        "solver_steps": _Option(int, None),
        "guidance": _Option(_CALIBRATED, _CALIBRATED),
        "threshold": _Option(float, None),
        "grain": _Option(float, 0.0625),
        "remainder": _words("carry", "fade"),
        "coupling": _words("inversion", "transport"),
        "edits": _Option(int, 1),
        "partners": _Option(str, ""),  # names or files of weights, with commas between them
    },
}
# The rules of each kind; `add_kind` adds those of users.
OPTIONS: dict[str, dict[str, Any]] = {
    kind: {name: option.rule for name, option in options.items()}
    for kind, options in _BUILT_IN_OPTIONS.items()
}
# Written or left out, these mean the same: they are filled in, and so enter every hash.
BUILT_IN: dict[str, dict[str, Any]] = {
    "flow": {"transform": "spline"},
    "discrete": {"coupling": "monotone"},
    "derived": {"rule": "none_of"},
    "empirical": {},
    "radit": {"size": "tiny", "resolution": 64},
}


def option_defaults(kind: str) -> dict[str, Any]:
    """Return the options of a built-in kind with their defaults, as `Mechanism.defaults` has them.

    Example:
        >>> option_defaults("derived")
        {'rule': ('none_of', 'any_of', 'at_least', 'below'), 'threshold': None}
    """
    return {name: option.default for name, option in _BUILT_IN_OPTIONS[kind].items()}
