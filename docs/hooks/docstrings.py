"""Docstrings of this project for griffe: a section `Example:` holds a doctest, not prose."""

import re
from typing import Any

from griffe import Extension, Object

_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)


class Doctests(Extension):
    """Name the sections as griffe knows them, so that they are shown as code."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rename the section in the docstring of a module, class or function."""
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub("Examples:", obj.docstring.value)
