"""Downloads: the pair as PNG or DICOM, the answer as JSON, the line of Python."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalcxr.apps.explorer.assumptions import Assumptions
from causalcxr.apps.explorer.image_encoding import pair_png
from causalcxr.apps.explorer.question import AbductedPatient, TwinAnswer
from causalcxr.apps.export.dicom import secondary_capture
from causalcxr.apps.export.exporting import no_older
from causalcxr.apps.export.provenance import Provenance, Pseudonyms, SyntheticImage
from causalcxr.common.errors import CohortError
from causalcxr.common.versions import versions
from causalcxr.images.synthetic_mark import MARK, hardly_differs
from causalcxr.scm.identity import couplings, equation_hashes
from causalcxr.scm.model_images import sizes_of, solver_of

__all__ = ["ImagePair", "answer_json", "pair_dicom", "provenance_of", "python_text"]


@dataclass(frozen=True)
class ImagePair:
    """A factual image and its twin, (H, W) uint16 each."""

    factual: np.ndarray
    twin: np.ndarray

    def png(self, about: Provenance, *, synthetic: bool = True) -> bytes:
        """Return both as one picture, marked if one of them is synthetic."""
        return pair_png(self.factual, self.twin, about.derivation, synthetic=synthetic)

    @property
    def same(self) -> bool:
        """Whether both are equal in every pixel."""
        return bool((self.factual == self.twin).all())


def provenance_of(abducted: AbductedPatient, answer: TwinAnswer) -> Provenance:
    """Return how the twin was computed."""
    model, graph = abducted.model, abducted.model.graph
    # One digest for all equations, in a fixed order.
    hashes = equation_hashes(model)
    return Provenance(
        "counterfactual",
        answer.question.action.bind(graph).to_json()["do"],
        graph.name,
        graph.hash,
        solver_of(model),
        abducted.seed,
        hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest(),
        {
            "hold": [graph.find(name) for name in answer.question.hold],
            "beyond_range": answer.question.beyond_range,
            "coupling": couplings(model),
            "images": sizes_of(model, abducted.patient),
            "versions": versions(),
        },
    )


def answer_json(
    abducted: AbductedPatient, answer: TwinAnswer, assumptions: Assumptions, code: str
) -> bytes:
    """Return the table, its assumptions and its provenance."""
    content: dict[str, Any] = {
        "mark": MARK,
        "record": str(abducted.patient.records[0]),
        "source": abducted.patient.source,
        **answer.to_json(),
        **assumptions.to_json(),
        "python": code,
        "provenance": provenance_of(abducted, answer).to_json(),
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def python_text(code: str) -> bytes:
    """Return a small program around the line that gives the same twin."""
    imports = "import causalcxr as cx\nimport pandas as pd\n\nfrom causalcxr import do\n\n"
    return f"{imports}twins = {code}\nprint(twins.table.T)\n".encode()


def pair_dicom(
    abducted: AbductedPatient, answer: TwinAnswer, pair: ImagePair, key: bytes
) -> bytes:
    """Return the twin as DICOM in a .zip, and the factual image too if it is synthetic.

    A patient's own image is never written, because its header would be invented. A twin that is
    the patient's own image, or within one 8-bit grey level of it in every pixel, is refused.

    Args:
        abducted: The patient and the model.
        answer: The values of the twin.
        pair: Both images.
        key: Secret random bytes, from which the new identifiers are derived.

    Raises:
        CohortError: If the twin is, or looks like, the patient's own image.
    """
    # An image that is as good as the patient's own must not leave as a synthetic one.
    if not abducted.synthetic and hardly_differs(pair.twin, pair.factual):
        closeness = "equals" if pair.same else "is within one 8-bit grey level of"
        raise CohortError(
            f"the twin {closeness} the patient's own radiograph and is not exported as synthetic; "
            "set a variable that changes the image"
        )
    about, ids = provenance_of(abducted, answer), Pseudonyms(key)
    facts = {line.name: line.factual for line in answer.lines}
    twin = {line.name: line.twin for line in answer.lines}
    changed = tuple(line.name for line in answer.lines if line.factual != line.twin)
    # The factual image is exported only if it is synthetic itself.
    images = {"twin": (pair.twin, _image(abducted, ids, twin, changed, about), about)}
    if abducted.synthetic:
        source = Provenance("sample", others={"source": "synthetic cohort"})
        images["factual"] = (pair.factual, _image(abducted, ids, facts, (), source), source)
    # In memory: nothing is written to disk.
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as folder:
        for name, (pixels, image, provenance) in images.items():
            file = secondary_capture(pixels, image, provenance)
            sidecar = image.sidecar(provenance, _file(f"{name}.dcm", file, pixels))
            folder.writestr(f"{name}.dcm", file)
            folder.writestr(f"{name}.json", sidecar)
    return content.getvalue()


def _image(
    abducted: AbductedPatient,
    ids: Pseudonyms,
    words: Mapping[str, str],
    changed: tuple[str, ...],
    about: Provenance,
) -> SyntheticImage:
    # The kind is part of name and instance: record and twin are two images of one series.
    record, kind = str(abducted.patient.records[0]), about.derivation
    graph = abducted.model.graph
    values = {n: _number(graph[n], word) for n, word in words.items() if word != "missing"}
    return SyntheticImage(
        name=ids.name(record, kind),
        patient=ids.patient(str(abducted.patient.patients.iloc[0])),
        study=ids.uid("study", record),
        series=ids.uid("series", record),
        instance=ids.uid("instance", record, kind),
        number=1,
        values={name: no_older(name, value) for name, value in values.items()},
        changed=changed,
        checked=abducted.patient.images.drawn,
    )


def _number(variable: Any, word: str) -> str | float:
    """Return a level unchanged, and a number without its unit."""
    return word if variable.is_discrete else float(word.split(" ")[0])


def _file(name: str, content: bytes, pixels: np.ndarray) -> dict[str, Any]:
    return {
        "file": name, "format": "dicom", "sha256": hashlib.sha256(content).hexdigest(),
        "rows": pixels.shape[0], "columns": pixels.shape[1], "bits": 16,
    }  # fmt: skip
