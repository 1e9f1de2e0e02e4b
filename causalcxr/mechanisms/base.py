"""The contract of a structural equation x := f(u; parents)."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from causalcxr.common.errors import MechanismError, nearest
from causalcxr.common.random_numbers import Draws
from causalcxr.graph.graph import Variable
from causalcxr.graph.mechanism_options import NumberOr
from causalcxr.mechanisms.parameter_network import Rates
from causalcxr.mechanisms.rounding import Rounding
from causalcxr.mechanisms.training import History, fit_mechanism

__all__ = ["Columns", "Equation", "History", "Mechanism", "chunks"]

Columns = dict[str, Tensor]

# Rows at a time, a multiple of 48 (see `threads`). Few calls matter more than the cache.
_CHUNK = 24576


def chunks(n: int) -> Iterator[slice]:
    """Yield slices that cover n rows."""
    for start in range(0, n, _CHUNK):
        yield slice(start, min(start + _CHUNK, n))


class Equation:
    """A structural equation whose parents are bound.

    A missing x (NaN) has no noise: its u is NaN, and NaN predicts NaN.
    """

    def abduct(self, x: Tensor, draws: Draws) -> Tensor:
        """Return u, a draw of the exact posterior p(u | x, parents).

        Args:
            x: Values, shape (n,), float64.
            draws: The random numbers of these n records.
        """
        raise NotImplementedError

    def predict(self, u: Tensor) -> Tensor:
        """Return x, shape (n,), from the noise."""
        raise NotImplementedError

    def sample_noise(self, draws: Draws) -> Tensor:
        """Return u from the prior, one row a record."""
        raise NotImplementedError

    def reaching(self, names: Iterable[str]) -> "Equation":
        """Return the equation for an intervention that changes these parents.

        Only guidance and threshold depend on it; abduction and prediction must share them.
        """
        return self

    def sized(self, height: int, width: int) -> "Equation":
        """Return the equation for images of this size; only that of an image depends on it."""
        return self

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density or log-mass of x, shape (n,); NaN where x is missing."""
        raise NotImplementedError


class Mechanism(nn.Module):
    """A structural equation x := f(u; parents) with its parameters.

    Args:
        variable: The variable x.
        parents: Its parents, in the order of the graph.
        options: The options in the graph's `mechanism:` entry; see `defaults`.

    Raises:
        MechanismError: If an option is unknown or its value is not allowed.
    """

    #: Option -> default. A tuple lists the words allowed, the default first; None marks an
    #: optional number.
    defaults: ClassVar[Mapping[str, Any]] = {}
    #: Options of the training loop, shared by all mechanisms that are trained.
    training_defaults: ClassVar[Mapping[str, Any]] = {
        "epochs": 20,
        "batch": 4096,
        "lr": 0.01,
        "patience": 4,
    }

    def __init__(self, variable: Variable, parents: Sequence[Variable], **options: Any) -> None:
        super().__init__()
        self.variable = variable
        self.parents = tuple(parents)
        self.options = self._resolve(options)

    def _resolve(self, options: Mapping[str, Any]) -> dict[str, Any]:
        defaults = {**self.training_defaults, **self.defaults}
        for name, value in options.items():
            place = f"variable {self.variable.name!r}: mechanism option {name!r}"
            if name not in defaults:
                raise MechanismError(
                    f"{place} is not known{nearest(name, defaults)}; use one of {sorted(defaults)}"
                )
            _check_option(place, value, defaults[name])
        # A tuple lists the words allowed; its first is the default.
        usual = {k: v[0] if isinstance(v, tuple) else v for k, v in defaults.items()}
        usual |= {k: None for k, v in defaults.items() if isinstance(v, NumberOr)}
        return {**usual, **options}

    @property
    def trainable(self) -> bool:
        """Whether there are parameters to train."""
        return any(p.requires_grad for p in self.parameters())

    def provenance(self) -> str:
        """Return a hash of the weights from files that training starts from; empty if none."""
        return ""

    def prepare(self, x: Tensor, parents: Columns) -> None:
        """Fit encoders and pre-maps once, to the training rows; x has no missing value here."""

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights from this generator alone."""

    def forward(self, parents: Columns) -> Equation:
        """Return the equation for these parents; under `torch.no_grad` it is cheaper."""
        raise NotImplementedError

    def encode(self, parents: Columns) -> Tensor:
        """Return the parents as features, shape (n, d); training calls this once."""
        raise NotImplementedError

    def losses(
        self, x: Tensor, context: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return one loss a row, shape (n,); x has no missing value here.

        Args:
            x: Values, shape (n,).
            context: Encoded parents, shape (n, d).
            generator: For losses that are an expectation; a fixed one if not given.
        """
        raise NotImplementedError

    def forms(self, x: Tensor) -> Sequence[str]:
        """Return the forms that training compares, the plainest first; see `take`."""
        return ("",)

    def take(self, form: str) -> None:
        """Use one of the `forms` from the next `prepare` on."""

    def start(self, x: Tensor, context: Tensor) -> None:
        """Set the weights, after `reset`, to a first guess that needs no training.

        Args:
            x: Training values, shape (n,).
            context: Encoded parents, shape (n, d).
        """

    def plain_rates(self) -> Rates:
        """Return step factors under which a simpler distribution is fitted; empty if none is."""
        return {}

    def null_rates(self) -> Rates:
        """Return step factors for training with hidden parents; empty if that is not needed."""
        return {}

    def hide(self, context: Tensor, generator: torch.Generator) -> Tensor:
        """Return the features with some parents hidden; used after all else is trained."""
        return context

    def loss(self, x: Tensor, parents: Columns) -> Tensor:
        """Return the mean loss over the rows where x is observed, a scalar."""
        observed = ~torch.isnan(x)
        context = self.encode(parents)
        context = context if len(context) == 1 else context[observed]
        return self.losses(self.checked(x)[observed], context).mean()

    def fit(
        self,
        x: Tensor,
        parents: Columns,
        *,
        validation: tuple[Tensor, Columns] | None = None,
        seed: int,
        progress: Callable[[int, int, float], None] | None = None,
        folder: Path | None = None,
    ) -> History:
        """Fit to the observed rows and keep the epoch that is best on validation.

        Args:
            x: Values, shape (n,); rows with NaN are left out.
            parents: The columns of the parents, each (n,).
            validation: The same for other patients; without it a tenth of the rows is set aside.
            seed: Initial weights, shuffles and dropout depend on this alone.
            progress: Called after every epoch with (epoch, epochs, validation loss).
            folder: For checkpoints of a long fit; scalar mechanisms need none.

        Raises:
            MechanismError: If x is never observed, or the loss is not finite.
        """
        return fit_mechanism(self, x, parents, validation=validation, seed=seed, progress=progress)

    def checked(self, x: Tensor) -> Tensor:
        """Return x as float64, once its shape and values are checked.

        Raises:
            MechanismError: If x is not a column, or holds a value that the variable cannot take.
        """
        name, x = self.variable.name, torch.as_tensor(x, dtype=torch.float64)
        if x.ndim != 1:
            raise MechanismError(
                f"variable {name!r}: expected a column of shape (n,), not {tuple(x.shape)}"
            )
        is_bad = x.isinf() | self._forbidden(x)
        if is_bad.any():
            raise MechanismError(
                f"variable {name!r}: {self._rule()}; {int(is_bad.sum())} of {len(x)} rows are "
                f"not, the first is {x[is_bad][0].item():g}"
            )
        return x

    def _forbidden(self, x: Tensor) -> Tensor:
        """Return which values the variable cannot take, shape (n,); NaN is always allowed."""
        if not self.variable.is_discrete:
            return Rounding(self.variable).forbidden(x)
        k = len(self.variable.levels)
        return (x < 0) | (x >= k) | (x != x.floor()) & ~x.isnan()

    def _rule(self) -> str:
        if not self.variable.is_discrete:
            return Rounding(self.variable).rule
        levels = list(self.variable.levels)
        return f"values must be positions 0 to {len(levels) - 1} of {levels}"


def _check_option(place: str, value: Any, default: Any) -> None:
    """Raise an error unless the value is a listed word, or a number of the right kind and sign."""
    # The type of the default is the rule for the value.
    if isinstance(default, tuple):
        is_valid, rule = value in default, f"one of {list(default)}{nearest(value, default)}"
    elif default is None or isinstance(default, NumberOr):
        is_number = isinstance(value, int | float) and math.isfinite(value)
        is_word = default is not None and value == default.word
        is_valid, rule = value is None or is_number or is_word, str(default or "a finite number")
    elif isinstance(default, str):
        is_valid, rule = isinstance(value, str), "a text"
    elif isinstance(default, float):
        is_valid, rule = isinstance(value, int | float) and value > 0, "a number above zero"
    else:
        is_valid, rule = isinstance(value, int) and value >= 0, "a whole number"
    # Python counts True as an integer: refuse it explicitly.
    if not is_valid or isinstance(value, bool):
        raise MechanismError(f"{place} is {value!r}; it must be {rule}")
