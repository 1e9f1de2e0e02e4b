"""The questions of `scm.questions` as methods of `SCM`, imported when they are called."""

from importlib import import_module
from types import MethodType
from typing import TYPE_CHECKING, Any

__all__ = ["Questions"]


class _Question:
    """A function of a module of questions as a method: signature and documentation are its own."""

    def __init__(self, module: str) -> None:
        self.module = f"causalcxr.scm.questions.{module}"

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, model: Any, owner: type) -> Any:
        function = getattr(import_module(self.module), self.name)
        return function if model is None else MethodType(function, model)


class Questions:
    """Questions to a model, as methods of `SCM`.

    Each takes records as a Cohort or as a DataFrame, and the intervention as `do(sex="M")` or by
    name: `model.effect(cohort, sex="M")`. The functions need a model, so the model cannot import
    them; type checkers and editors see the imports, Python the function when it is called.

    Example:
        >>> import inspect
        >>> [*inspect.signature(Questions.check).parameters][:3]
        ['model', 'cohort', 'split']
    """

    if TYPE_CHECKING:
        from causalcxr.scm.questions.checks import check
        from causalcxr.scm.questions.confounding import confounding
        from causalcxr.scm.questions.effects import effect
        from causalcxr.scm.questions.model_comparison import compare
        from causalcxr.scm.questions.probabilities import probabilities
        from causalcxr.scm.questions.pyro_program import to_pyro
        from causalcxr.scm.questions.sensitivity import sensitivity
        from causalcxr.scm.questions.support_report import support_of
    else:
        check = _Question("checks")
        compare = _Question("model_comparison")
        confounding = _Question("confounding")
        effect = _Question("effects")
        probabilities = _Question("probabilities")
        sensitivity = _Question("sensitivity")
        support_of = _Question("support_report")
        to_pyro = _Question("pyro_program")
