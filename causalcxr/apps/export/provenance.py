"""Metadata of an exported image: new identifiers, and how it was made."""

import hashlib
import hmac
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from pydicom.uid import UID

from causalcxr.images.synthetic_mark import MARK

__all__ = ["OLDEST", "Provenance", "Pseudonyms", "SyntheticImage"]

OLDEST = 90  # years: an age above 89 could identify a patient, so all of them become 90
_SOFTWARE = "causalcxr"


@dataclass(frozen=True)
class Pseudonyms:
    """New identifiers that reveal nothing of the source's; all images of a patient share one.

    They are keyed hashes (HMAC-SHA256). The identifiers of a public data set are
    known: with a plain hash anyone could link them to the new ones; without the key nobody can.

    Args:
        key: At least 16 random bytes; the same key gives the same identifiers.

    Example:
        >>> ids = Pseudonyms(b"not a secret, but of a length")
        >>> ids.patient("00000013"), ids.uid("instance", "00000013_005.png", 0)[:7]
        ('SYN-EBE318F16AFDC2B7', '2.25.50')
    """

    key: bytes

    def patient(self, patient: object) -> str:
        """Return the id of a synthetic patient."""
        return f"SYN-{self._digest('patient', patient)[:8].hex().upper()}"

    def uid(self, what: str, *of: object) -> UID:
        """Return the UID of a study, a series or an instance (PS3.5 B.2, of 128 bits)."""
        return UID(f"2.25.{int.from_bytes(self._digest(what, *of)[:16], 'big')}")

    def name(self, *of: object) -> str:
        """Return the stem of an image's file."""
        return f"synthetic-{self._digest('file', *of)[:8].hex()}"

    def _digest(self, *parts: object) -> bytes:
        text = json.dumps([str(part) for part in parts])
        return hmac.new(self.key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()


@dataclass(frozen=True)
class Provenance:
    """How a set of synthetic images was made.

    Args:
        kind: "counterfactual" or "sample".
        intervention: Variable -> its new value or change; empty for samples.
        graph: Its name.
        graph_hash: SHA-256 of the graph, or "" where there is none.
        solver: Of the image's equation, in words, or "".
        seed: Of the random numbers, or None.
        model: SHA-256 over the hashes of the structural equations, or "".
        others: Further settings, as JSON: couplings, versions, held variables.

    Example:
        >>> Provenance("counterfactual", {"Sex": "M"}, "cxr7", "c0ffee", "Heun", 3).derivation[:58]
        'Counterfactual computed by causalcxr 0.1.0: do(Sex = M); g'
    """

    kind: str
    intervention: Mapping[str, Any] = field(default_factory=dict)
    graph: str = ""
    graph_hash: str = ""
    solver: str = ""
    seed: int | None = None
    model: str = ""
    others: Mapping[str, Any] = field(default_factory=dict)

    @property
    def software(self) -> str:
        """The program and its version."""
        return f"{_SOFTWARE} {version(_SOFTWARE)}"

    @property
    def derivation(self) -> str:
        """How the images were made, in one line."""
        done = ", ".join(f"{name} = {_worded(value)}" for name, value in self.intervention.items())
        parts = [
            f"do({done})" if done else "",
            f"graph {self.graph} sha256 {self.graph_hash}" if self.graph_hash else self.graph,
            f"solver {self.solver}" if self.solver else "",
            f"seed {self.seed}" if self.seed is not None else "",
            f"model sha256 {self.model}" if self.model else "",
        ]
        return f"{self.kind.capitalize()} computed by {self.software}: " + "; ".join(
            filter(None, parts)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the content for sidecars and manifest."""
        return {
            "kind": self.kind,
            "derivation": self.derivation,
            "intervention": dict(self.intervention),
            "graph": self.graph,
            "graph_sha256": self.graph_hash,
            "solver": self.solver,
            "seed": self.seed,
            "model_sha256": self.model,
            "software": self.software,
            **self.others,
        }


@dataclass(frozen=True)
class SyntheticImage:
    """One image that is exported, under its new identifiers.

    Args:
        name: The stem of its file.
        patient: The id of the patient who never was.
        study: UID.
        series: UID.
        instance: UID.
        number: Of the image in its series, from 1: the posterior draw.
        values: Variables in raw units; what is missing is left out.
        changed: Which variables the intervention changed.
        checked: Whether a person found no writing burned into the pixels.
        source: SOP class and instance of the image it was made from, where the link is allowed.
        largest: The largest change of a pixel from the patient's radiograph, between 0 and 1.
    """

    name: str
    patient: str
    study: UID
    series: UID
    instance: UID
    number: int
    values: Mapping[str, Any] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    checked: bool = False
    source: tuple[str, str] | None = None
    largest: float | None = None

    def sidecar(self, about: Provenance, file: Mapping[str, Any]) -> str:
        """Return the text of the file beside the image.

        Args:
            about: How it was made.
            file: The image file's name, format, size, bits and SHA-256.
        """
        # Ids are pseudonyms; the image of origin is named only where the link is allowed.
        content = {
            "mark": MARK,
            **file,
            "patient": self.patient,
            "study": self.study,
            "series": self.series,
            "instance": self.instance,
            "number": self.number,
            "variables": {name: _plain(value) for name, value in self.values.items()},
            "changed": list(self.changed),
            "largest_change": self.largest,
            "burned_in_annotation": "none found" if self.checked else "not checked",
            "source_instance": None if self.source is None else self.source[1],
            "provenance": about.to_json(),
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _worded(value: Any) -> str:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else str(value)


def _plain(value: Any) -> Any:
    """Return a cell for JSON: whole numbers as integers, null for a value that is not finite."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() else value
    return value.item() if hasattr(value, "item") else value
