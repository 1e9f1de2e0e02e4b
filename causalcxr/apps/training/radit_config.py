"""Configuration files of trainings: YAML, with the file and the line in every error.

`read_config` reads such a file into any pydantic model; `RunConfig` is the model of a training run
of RadiT, which docs/training.md describes with an example.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
)
from ruamel.yaml.nodes import Node, ScalarNode
from ruamel.yaml.tag import Tag

from causalcxr.common.errors import GraphError, ModelError, brief, nearest
from causalcxr.common.files import read_text
from causalcxr.graph.mechanism_spec import GraphFault
from causalcxr.graph.yaml_file import compose, locating_faults, plain
from causalcxr.radit.train_config import TrainConfig

__all__ = ["RunConfig", "SourceShare", "overridden", "read_config"]

_Side = Annotated[StrictInt, Field(ge=8, le=4096)]
_Count = Annotated[StrictInt, Field(ge=0)]
_ROUNDING = 1e-6  # of the sum of shares
_Model = TypeVar("_Model", bound=BaseModel)


class SourceShare(BaseModel):
    """A cohort, and its share of every batch.

    Args:
        source: As the command line names a cohort; `from` in the file.
        share: More than 0, at most 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    source: StrictStr = Field(alias="from")
    share: Annotated[float, Field(gt=0, le=1)]


class RunConfig(BaseModel):
    """Describe a training run of RadiT: the network, the data, the output.

    Args:
        out: The safetensors file to write; card, samples, checkpoint and log stand beside it.
        cohort: As the command line names a cohort: `phantom:n=500,seed=1`, a folder, a store; or
            several, with the share of each in every batch.
        graph: A graph whose image variable names the parents.
        size: The size of the network.
        network: Any other field of `RadiTConfig`, such as patch or depth.
        resolution: Pixels along each side, or [height, width].
        weights: Weights to start from: a bundled name or a file.
        codec: An autoencoder's file: the network then learns its latents.
        latents: Where that autoencoder's latents of the cohort are cached, if they are.
        training: How to train, see `TrainConfig`.
        validation: The share of the records that are held out, where the cohort has no splits; 0
            for none.
        workers: Processes that render or shrink the images before training; 0 prepares each image
            when it is first needed.
        samples: Steps between sheets of samples and losses of held-out images; 0 for none before
            the end.
        truth: Steps between comparisons of twins of held-out phantoms with their true twins; 0 for
            none.
        tensorboard: Whether to write a log for tensorboard, too.
        seed: Of the initial weights and of the training.
        device: cpu, cuda, or auto.
        threads: Processor threads; 0 for torch's choice.
        minutes: Stop after so many minutes with a checkpoint; the same command resumes from it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: StrictStr
    cohort: StrictStr | tuple[SourceShare, ...]
    graph: StrictStr = "cxr7"
    size: StrictStr = "tiny"
    network: dict[StrictStr, Any] = {}
    resolution: _Side | tuple[_Side, _Side] = 64
    weights: StrictStr = ""
    codec: StrictStr = ""
    latents: StrictStr = ""
    training: TrainConfig = TrainConfig()
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    workers: _Count = 0
    samples: _Count = 0
    truth: _Count = 0
    tensorboard: bool = False
    seed: StrictInt = 0
    device: StrictStr = "auto"
    threads: _Count = 0
    minutes: Annotated[float, Field(ge=0)] = math.inf

    @field_validator("cohort")
    @classmethod
    def _complete(cls, cohort: str | tuple[SourceShare, ...]) -> str | tuple[SourceShare, ...]:
        if not isinstance(cohort, str):
            total = math.fsum(each.share for each in cohort)
            if abs(total - 1) > _ROUNDING:
                raise ValueError(f"cohort: the shares sum to {total:g}; they must sum to 1")
        return cohort

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width in pixels."""
        side = self.resolution
        return (side, side) if isinstance(side, int) else side

    @property
    def sources(self) -> tuple[SourceShare, ...]:
        """The cohorts and their shares; one cohort has all of it.

        Example:
            >>> RunConfig(out="a.safetensors", cohort="phantom").sources[0].share
            1.0
        """
        if isinstance(self.cohort, str):
            return (SourceShare(source=self.cohort, share=1.0),)
        return self.cohort


def read_config(file: str | Path, model: type[_Model], words: Sequence[str] = ()) -> _Model:
    r"""Read a YAML file into a model.

    Args:
        file: The file.
        model: The model of its content.
        words: KEY=VALUE, which replace values of the file: `training.lr=1e-3`.

    Raises:
        ModelError: One line with the file, the line, the value, the rule and the remedy.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "run.yaml"
        ...     _ = file.write_text("out: a.safetensors\ncohort: phantom\n")
        ...     read_config(file, RunConfig, ["training.steps=7"]).training.steps
        7
    """
    text, source = read_text(file, error=ModelError), str(file)
    if not text.strip():
        raise ModelError(f"{source}: the file is empty; it needs {_needed(model)}")
    try:
        # Faults in here are reported with their line in the file.
        with locating_faults(text, source):
            content = plain(_booleans(compose(text)))
            if not isinstance(content, Mapping):
                raise GraphFault((), f"this is a map with {_needed(model)}")
            # Entries given on the command line replace those of the file.
            values = overridden(content, words)
            try:
                return model(**values)
            except ValidationError as error:
                raise _fault(error, model, values, content) from None
    except GraphError as error:  # graphs and configurations share one YAML reader
        raise ModelError(str(error)) from None


def overridden(content: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Return a configuration with some values changed, by dotted keys.

    Raises:
        ModelError: If a word is no KEY=VALUE, or its value is not YAML.

    Example:
        >>> overridden({"a": {"b": 1, "c": 2}}, ["a.b=[3, 4]", "d=x"])
        {'a': {'b': [3, 4], 'c': 2}, 'd': 'x'}
    """
    out = dict(content)
    for word in words:
        key, equals, value = word.partition("=")
        names = key.strip().split(".")
        if not equals or not all(names):
            raise ModelError(f"{word!r} is no KEY=VALUE; write it like training.steps=500")
        inner = out
        for name in names[:-1]:
            inner[name] = dict(inner[name]) if isinstance(inner.get(name), Mapping) else {}
            inner = inner[name]
        inner[names[-1]] = _value(word, value)
    return out


def _value(word: str, text: str) -> Any:
    """Return a value as YAML reads it; a value with a colon is text, as names of cohorts are."""
    if not text.strip():
        return ""
    if ":" in text and text.strip()[0] not in "[{\"'":
        return text
    try:
        with locating_faults(text, word):
            return plain(_booleans(compose(text)))
    except GraphError as error:
        raise ModelError(str(error)) from None


def _needed(model: type[BaseModel]) -> str:
    return " and ".join(name for name, f in model.model_fields.items() if f.is_required())


def _fault(
    error: ValidationError, model: type, values: Mapping[str, Any], content: Mapping[str, Any]
) -> GraphFault:
    """Turn pydantic's first error into one line with its place in the file."""
    errors = error.errors(include_url=False)
    extra = ("extra_forbidden", "unexpected_keyword_argument")
    # A misspelt field is also a missing one: the misspelt name is the better message.
    first = min(errors, key=lambda e: (e["type"] not in extra, -len(_path(e["loc"], values))))
    place = _path(first["loc"], values)
    name = ".".join(map(str, place))
    # Say so where the fault is not in the file.
    origin = "" if _path(place, content) == place else " (from the command line)"
    if first["type"] == "missing":
        last = str(first["loc"][-1])
        return GraphFault(place, f"{last!r} is missing; add {last}: ...")
    if first["type"] in extra:
        choices = list(_fields(model, place[:-1]))
        hint = nearest(place[-1], choices) or f" (fields: {', '.join(choices)})"
        return GraphFault(place, f"field {name!r} is not known{origin}{hint}")
    own = (first.get("ctx") or {}).get("error")
    if isinstance(own, ValueError):  # an error of this package: it has the value and the rule
        return GraphFault(place, f"{own}{origin}")
    rule = first["msg"].replace("Input should be", "it should be")
    return GraphFault(place, f"{name}: {brief(first['input'])}{origin}; {rule}")


def _path(place: Sequence[Any], content: Any) -> tuple[Any, ...]:
    """Return the longest beginning of a place that is in the file; pydantic may add names."""
    out: list[Any] = []
    for key in place:
        in_map = isinstance(content, Mapping) and key in content
        in_list = isinstance(content, list) and isinstance(key, int) and key < len(content)
        if in_map or in_list:
            content = content[key]
            out.append(key)
    return tuple(out)


def _booleans(node: Node) -> Node:
    """Read true and false without quotes as text, which pydantic turns into booleans."""
    if isinstance(node, ScalarNode):
        if not node.style and node.value in ("true", "false"):
            node.style, node.ctag = '"', Tag(suffix="tag:yaml.org,2002:str")
    else:
        for each in node.value:
            for inner in each if isinstance(each, tuple) else (each,):
                _booleans(inner)
    return node


def _fields(model: Any, place: Sequence[Any]) -> Iterator[str]:
    """Yield the fields that a place of a model may have."""
    for kind in _kinds(model):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            members = {f.alias or name: f.annotation for name, f in kind.model_fields.items()}
        elif is_dataclass(kind):
            members = {field.name: field.type for field in fields(kind)}
        elif get_origin(kind) is tuple and place:
            yield from _fields(get_args(kind)[0], place[1:])
            continue
        else:
            continue
        if not place:
            yield from members
        elif place[0] in members:
            yield from _fields(members[place[0]], place[1:])


def _kinds(annotation: Any) -> list[Any]:
    """Return the types that an annotation allows."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _kinds(part)]
    return [annotation]
