"""Docstrings of this project for griffe: a section `Example:` contains a doctest, not prose."""

import re
from typing import Any

from griffe import Extension, Object

_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)


class Doctests(Extension):
    """Rename the sections to the name that griffe shows as code."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rename the section in the docstring of a module, class or function."""
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub("Examples:", obj.docstring.value)
