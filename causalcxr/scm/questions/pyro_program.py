"""A fitted model as a Pyro program, for Pyro's inference.

Each site of the program is a variable, with the values of its column: numbers in raw units, or
positions of levels. The random numbers are Pyro's own: see `pyro.set_rng_seed`.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import pyro
import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor

from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import ModelError
from causalcxr.common.random_numbers import Draws
from causalcxr.graph.interventions import do
from causalcxr.mechanisms import Columns, Equation, Mechanism

__all__ = [
    "EquationDistribution",
    "PyroProgram",
    "noise_distribution",
    "to_pyro",
    "value_distribution",
]

# The distribution of each kind of equation's noise, with parameters 0 and 1.
_NOISE = {
    "DequantisedEquation": dist.Normal,
    "FlowEquation": dist.Normal,
    "GumbelEquation": dist.Gumbel,
    "IndependentEquation": dist.Uniform,
    "MonotoneEquation": dist.Uniform,
    "TransportEquation": dist.Normal,
}
_CONSTANT = {"DerivedEquation"}  # a rule has no noise


def to_pyro(model: Any, *, noise: bool = False) -> "PyroProgram":
    """Return a model as a Pyro program, for `pyro.do`, `pyro.condition` and inference.

    Args:
        model: A fitted model (`SCM`) without interventions; use `pyro.do` for these.
        noise: Sample the noise of each variable, at the site `u_<name>`, and compute the variable
            from it. Conditioned on abducted noise, the program then gives counterfactuals. Without
            it, each variable is sampled from its distribution given its parents, which has a
            log-probability, so that the program can be conditioned on values.

    Raises:
        ModelError: If the model is not fitted or is stale, has an intervention, a variable without
            an equation, or (with noise) an equation whose noise has no distribution in Pyro.

    Example:
        >>> import pandas as pd
        >>> from causalcxr import SCM, Graph
        >>> graph = Graph.parse("variables: {Sex: {type: binary, levels: [F, M]}}")
        >>> model = SCM(graph).fit(Cohort(pd.DataFrame({"Sex": ["F", "M"] * 20})))
        >>> program = to_pyro(model)
        >>> men = pyro.do(program, program.coded(sex="M"))
        >>> men(3)["Sex"].tolist()
        [1.0, 1.0, 1.0]
    """
    model._check_ready()
    if model._action:
        raise ModelError(
            f"to_pyro: the model is under {model._action.describe()}; give the model before it, "
            "and intervene with pyro.do(program, program.coded(...))"
        )
    if absent := [name for name in model.graph.tabular if name not in model.fitted]:
        raise ModelError(
            f"to_pyro: {', '.join(absent)} was never observed in training and has no equation; "
            "leave it out with graph.without_variable and fit again"
        )
    names = [name for name in model.graph.order if not model.graph[name].is_image]
    # Copies with constant weights, so that no gradient reaches those of the model.
    mechanisms = {n: deepcopy(model.fitted[n].mechanism).requires_grad_(False) for n in names}
    return PyroProgram(model.graph, mechanisms, noise=noise)


class PyroProgram:
    """Sample n records, one site per variable, in the plate `records`; images have no site.

    Discrete variables are Categorical with the learned masses. Continuous ones follow an
    `EquationDistribution`: its log-probability has a gradient, and so do samples of a spline.

    Args:
        graph: The graph.
        mechanisms: The equations, parents before children.
        noise: Whether to sample the noise, rather than the variables.
    """

    def __init__(self, graph: Any, mechanisms: Mapping[str, Mechanism], *, noise: bool) -> None:
        self.graph, self.mechanisms, self.noise = graph, mechanisms, noise
        if noise:
            zeros = {name: torch.zeros(1, dtype=torch.float64) for name in mechanisms}
            for mechanism in mechanisms.values():  # refuse unknown noise now, not in a run
                noise_distribution(mechanism(_parents(mechanism, zeros, Size([1]))), Size([1]))

    def __call__(
        self, n: int = 1, observed: Cohort | Mapping[str, Tensor] | None = None
    ) -> Columns:
        """Run the program once and return its values, (n,) each, float64.

        Args:
            n: Records in the plate; taken from `observed` if that is given.
            observed: Records, or columns: the program is conditioned on values that are not
            missing
                (NaN). A partly missing column has the sites `<name>_observed` and
                `<name>_unobserved`.

        Raises:
            CohortError: If the graph does not declare a value.
            ModelError: If the program samples noise and observed values are given.
        """
        # The number of observed records decides, if there are any.
        data = self._data(observed)
        n = len(next(iter(data.values()))) if data else n
        columns: Columns = {}
        with pyro.plate("records", n):
            for name, mechanism in self.mechanisms.items():
                parents = [columns[p.name] for p in mechanism.parents]
                # Values sampled under a plate of Pyro may have further batch dimensions.
                shape = torch.broadcast_shapes((n,), *(column.shape for column in parents))
                site = self._noise_site if self.noise else self._value_site
                x = site(mechanism, columns, shape, data.get(name)).double()
                # A site that is set or conditioned on may have one value for all records.
                columns[name] = x.expand(torch.broadcast_shapes(x.shape, shape))
        return columns

    def coded(self, **values: Any) -> Columns:
        """Return values as in the sites: `coded(sex="M", age=60)` for `pyro.do` and `condition`.

        Raises:
            InterventionError: If a name or value does not fit the graph, or needs a factual value.
        """
        action = do(values).bind(self.graph)
        missing = {name: np.full(1, np.nan) for name in action.names}
        return {name: torch.from_numpy(code)[0] for name, code in action.values(missing).items()}

    def _data(self, observed: Cohort | Mapping[str, Tensor] | None) -> Columns:
        if isinstance(observed, Cohort):
            columns = observed.columns(self.graph)
            observed = {name: torch.from_numpy(columns[name]) for name in self.mechanisms}
        data = {} if observed is None else {self.graph.find(k): v for k, v in observed.items()}
        if data and self.noise:
            raise ModelError(
                "a program that samples noise takes no observed values, as they have no density "
                "given their noise; use to_pyro(model), or pyro.condition on abducted noise"
            )
        return {name: torch.as_tensor(column).double() for name, column in data.items()}

    def _value_site(
        self, mechanism: Mechanism, columns: Columns, shape: Size, data: Tensor | None
    ) -> Tensor:
        name = mechanism.variable.name
        distribution = value_distribution(mechanism, columns, shape)
        if data is None or data.isnan().all():
            return pyro.sample(name, distribution)
        observed = ~data.isnan()
        if observed.all():
            return pyro.sample(name, distribution, obs=data)
        # Pyro ignores the values that fill the gaps, but they must be valid.
        filled = torch.where(observed, data, data[observed][0])
        return pyro.sample(name, distribution, obs=filled, obs_mask=observed)

    def _noise_site(
        self, mechanism: Mechanism, columns: Columns, shape: Size, data: Tensor | None
    ) -> Tensor:
        name = mechanism.variable.name
        distribution = noise_distribution(mechanism(_parents(mechanism, columns, shape)), shape)
        u = pyro.sample(f"u_{name}", distribution).double()
        inner = u.shape[len(u.shape) - distribution.event_dim :]
        shape = torch.broadcast_shapes(shape, u.shape[: len(u.shape) - distribution.event_dim])
        equation = mechanism(_parents(mechanism, columns, shape))
        x = equation.predict(u.expand(*shape, *inner).reshape(-1, *inner))
        return pyro.deterministic(name, x.reshape(shape))


class EquationDistribution(TorchDistribution):
    """The distribution of a continuous variable given its parents, according to its equation.

    With a `resolution` the log-probability is a log-mass, and samples have no gradient.

    Args:
        mechanism: The equation.
        columns: Columns that include its parents, each broadcastable to the shape.
        shape: The batch shape.
    """

    arg_constraints: Mapping[str, Any] = {}

    def __init__(self, mechanism: Mechanism, columns: Columns, shape: Size) -> None:
        self.mechanism, self.columns = mechanism, columns
        super().__init__(Size(shape), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """The real line, or the declared range."""
        declared = self.mechanism.variable.range
        return constraints.interval(*declared) if declared else constraints.real

    @property
    def has_rsample(self) -> bool:
        """Whether samples have a gradient: those of splines have, unless there is a resolution."""
        options = self.mechanism.options
        return options.get("transform") == "spline" and self.mechanism.variable.resolution is None

    def expand(self, batch_shape: Size, _instance: Any = None) -> "EquationDistribution":
        """Return the distribution with a larger batch shape."""
        return EquationDistribution(self.mechanism, self.columns, Size(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density in raw units, or the log-mass, of the broadcast shape."""
        shape = torch.broadcast_shapes(value.shape, self.batch_shape)
        x = value.double().expand(shape).reshape(-1)
        return self._equation(shape).log_prob(x).reshape(shape)

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008  # as torch has it
        """Return values of shape sample_shape + batch_shape, rounded as by the equation."""
        shape = Size(sample_shape) + self.batch_shape
        seed = int(torch.randint(2**62, ()))
        draws = Draws(np.arange(shape.numel(), dtype=np.uint64), seed)
        with torch.no_grad():
            equation = self._equation(shape)
            return equation.predict(equation.sample_noise(draws)).reshape(shape)

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008  # as torch has it
        """Return values with a gradient in the parents, of shape sample_shape + batch_shape."""
        shape = Size(sample_shape) + self.batch_shape
        equation = self._equation(shape)
        u = torch.randn(shape.numel(), dtype=torch.float64)
        z = self.mechanism.kernel.bind(equation.context).inverse(u)
        low, high = self.mechanism.variable.range or (None, None)
        x = self.mechanism.quantile.inverse(z).reshape(shape)
        return x if low is None else x.clamp(low, high)

    def _equation(self, shape: Size) -> Equation:
        return self.mechanism(_parents(self.mechanism, self.columns, shape))


def value_distribution(mechanism: Mechanism, columns: Columns, shape: Size) -> TorchDistribution:
    """Return the distribution of a variable given its parents, of the given batch shape."""
    levels = mechanism.variable.levels
    if not levels:
        return EquationDistribution(mechanism, columns, shape)
    equation, count = mechanism(_parents(mechanism, columns, shape)), Size(shape).numel()
    columns = [torch.full((count,), float(level)).double() for level in range(len(levels))]
    masses = torch.stack([equation.log_prob(x) for x in columns], -1)
    return dist.Categorical(logits=masses.reshape(*shape, len(levels)), validate_args=False)


def noise_distribution(equation: Equation, shape: Size) -> TorchDistribution:
    """Return the distribution of an equation's noise, of the given batch shape.

    Raises:
        ModelError: If the kind of equation is unknown.
    """
    kind = type(equation).__name__
    # A sample shows the shape of one record's noise.
    one = equation.sample_noise(Draws(np.zeros(1, dtype=np.uint64)))[0]
    if kind in _CONSTANT:
        return dist.Delta(one.expand(shape))
    if kind not in _NOISE:
        raise ModelError(
            f"to_pyro: the noise of a {kind} has no distribution in Pyro; leave out noise=True"
        )
    # All of these have location 0 and scale 1, or the ends 0 and 1.
    zero = torch.zeros(*shape, *one.shape, dtype=torch.float64)
    return _NOISE[kind](zero, zero + 1).to_event(one.ndim)


def _parents(mechanism: Mechanism, columns: Columns, shape: Size) -> Columns:
    """Return the parents' columns, flattened from the batch shape to rows."""
    names = [parent.name for parent in mechanism.parents]
    return {name: columns[name].double().expand(shape).reshape(-1) for name in names}
