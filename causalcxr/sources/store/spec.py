"""The specification of a store: its sources, the decisions about their rows, its folder.

output: stores/chest
size: 512
sources:
  - {source: nih, path: data/nih}
  - {source: padchest, path: data/padchest, policy: {laterals: drop}}
policy: {uncertain: u_zeros}
splits: {published: keep, train: .88, val: .03, test: .09}
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from causalcxr.common.errors import CohortError, GraphError, brief, nearest
from causalcxr.common.files import read_text
from causalcxr.graph.mechanism_spec import GraphFault
from causalcxr.graph.yaml_file import compose, locating_faults, plain

__all__ = ["LimitsSpec", "SourceSpec", "Spec", "SplitsSpec"]

_Side = Annotated[StrictInt, Field(ge=1, le=16384)]
_Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]
_Texts = dict[StrictStr, StrictStr]
_FROZEN = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

_RULES = {
    "name": "a name is text",
    "output": "the folder to write, relative to this file",
    "size": "a side in pixels, or [height, width]",
    "sources": "a list of {source, path, policy, options}",
    "policy": "a map from decisions to choices, such as uncertain: u_zeros",
    "splits": "{published: keep or ignore, train: .8, val: .1, test: .1, seed: 0}",
    "limits": "limits for one file: {seconds: 30, megapixels: 64, megabytes: 512}",
    "shard": "approximate mebibytes of pixels in a file",
    "source": "the name of a source, such as nih",
    "path": "a path, relative to this file",
    "options": "a map from names to whole numbers or words",
    "published": "keep or ignore",
    "train": "a fraction between 0 and 1",
    "val": "a fraction between 0 and 1",
    "test": "a fraction between 0 and 1",
    "seed": "a whole number",
    "seconds": "a positive number",
    "megapixels": "a positive number",
    "megabytes": "a positive number",
}


class SourceSpec(BaseModel):
    """Name one source.

    Args:
        source: Its name; by default the one that recognises the path.
        path: Its folder or file.
        policy: Decisions for this source, in addition to those for all.
        options: Options of the source's `load`, for sources without a policy.
    """

    model_config = _FROZEN

    source: StrictStr | None = None
    path: StrictStr | None = None
    policy: _Texts = {}
    options: dict[StrictStr, StrictInt | StrictStr] = {}


class SplitsSpec(BaseModel):
    """The splits: as the sources publish them, otherwise by a hash of the patient."""

    model_config = _FROZEN

    published: Literal["keep", "ignore"] = "keep"
    train: _Fraction = 0.8
    val: _Fraction = 0.1
    test: _Fraction = 0.1
    seed: StrictInt = 0

    @property
    def fractions(self) -> tuple[float, float, float]:
        """The fractions of train, val and test."""
        return self.train, self.val, self.test


class LimitsSpec(BaseModel):
    """The limits of time and memory for one image file."""

    model_config = _FROZEN

    seconds: Annotated[float, Field(gt=0)] = 30.0
    megapixels: Annotated[float, Field(gt=0)] = 64.0
    megabytes: Annotated[float, Field(gt=0)] = 512.0


class Spec(BaseModel):
    r"""The specification of a store; the file is described at the top of this module.

    Example:
        >>> spec = Spec.parse("output: out\nsize: 64\nsources: [{source: phantom}]")
        >>> spec.size, spec.sources[0].source, spec.splits.published
        ((64, 64), 'phantom', 'keep')
        >>> Spec.parse("output: out\nsiz: 64")
        Traceback (most recent call last):
        causalcxr.common.errors.CohortError: spec:2: field 'siz' is not known; did you mean 'size'?
    """

    model_config = _FROZEN

    name: StrictStr | None = None
    output: StrictStr
    size: tuple[_Side, _Side] | None = None
    sources: Annotated[tuple[SourceSpec, ...], Field(min_length=1)]
    policy: _Texts = {}
    splits: SplitsSpec = SplitsSpec()
    limits: LimitsSpec = LimitsSpec()
    shard: Annotated[float, Field(gt=0, le=4096)] = 128.0

    @classmethod
    def load(cls, file: str | Path) -> "Spec":
        """Read a file.

        Raises:
            CohortError: If the file is not valid, with its line, the value and the rule.
        """
        return cls.parse(read_text(file, error=CohortError), str(file))

    @classmethod
    def parse(cls, text: str, source: str = "spec") -> "Spec":
        """Read the text of a file; see `load`."""
        if not text.strip():
            raise CohortError(f"{source}: the file is empty; it needs output, size and sources")
        try:
            with locating_faults(text, source):
                return cls._from_content(plain(compose(text)))
        except GraphError as error:  # the reader of graphs' YAML reads this YAML too
            raise CohortError(str(error)) from None

    @classmethod
    def _from_content(cls, content: Any) -> "Spec":
        if not isinstance(content, Mapping):
            raise GraphFault((), "a build is a map with output, size and sources")
        size = content.get("size")
        # One number is the side of a square.
        if isinstance(size, int) and not isinstance(size, bool):
            content = {**content, "size": (size, size)}
        try:
            spec = cls(**content)
        except ValidationError as error:
            raise _fault(error) from None
        for k, entry in enumerate(spec.sources):
            if entry.source is None and entry.path is None:
                raise GraphFault(("sources", k), "a source needs a path, a name, or both")
        if abs(sum(spec.splits.fractions) - 1) > 1e-6:
            raise GraphFault(("splits",), "train, val and test must sum to 1")
        return spec

    def as_dict(self) -> dict[str, Any]:
        """Return the content as JSON values, for the manifest."""
        return json.loads(self.model_dump_json(exclude_none=True))


def _fault(error: ValidationError) -> GraphFault:
    """Return the first error of pydantic as one line with its place."""
    errors = error.errors(include_url=False)
    # A misspelt field is also a missing one: the misspelt word says more.
    first = min(errors, key=lambda each: each["type"] != "extra_forbidden")
    place = tuple(first["loc"])
    field = next((str(key) for key in reversed(place) if key in _RULES), str(place[0]))
    if first["type"] == "missing":
        rule = _RULES.get(str(place[-1]), "")
        return GraphFault(place[:-1], f"no {place[-1]}: give {rule}")
    if first["type"] == "extra_forbidden":
        hint = nearest(str(place[-1]), _RULES) or f" (fields: {', '.join(_RULES)})"
        return GraphFault(place, f"field {brief(place[-1])} is not known{hint}")
    return GraphFault(place, f"{field} {brief(first['input'])}: {_RULES[field]}")
