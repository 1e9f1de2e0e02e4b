"""What tells one fitted model from another, for manifests of results."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from causalcxr.scm.model_images import solver_of

if TYPE_CHECKING:
    from causalcxr.scm.scm import SCM

__all__ = ["coupling_words", "couplings", "equation_hashes", "model_identity"]


def model_identity(model: "SCM") -> dict[str, Any]:
    """Return what determines a model's answers, for manifests.

    Returns:
        `graph` and `graph_hash`, `mechanisms` (the hash of each equation), `coupling` (see
        `couplings`) and `solver` (how the image's equation is solved, in words).
    """
    return {
        "graph": model.graph.name,
        "graph_hash": model.graph.hash,
        "mechanisms": equation_hashes(model),
        "coupling": couplings(model),
        "solver": solver_of(model),
    }


def equation_hashes(model: "SCM") -> dict[str, str]:
    """Return the hash of each fitted equation, by variable."""
    return {name: fitted.hash for name, fitted in model.fitted.items()}


def couplings(model: "SCM") -> dict[str, str]:
    """Return the coupling that each equation assumes: discrete variables, then the image."""
    options = {name: model.graph[name].mechanism.options for name in model.graph.tabular}
    named = {name: each["coupling"] for name, each in options.items() if "coupling" in each}
    # The image's coupling has a default, so the equation knows it, not the graph.
    image = model.graph.image
    mechanism = model.fitted[image].mechanism if image in model.fitted else None
    solving = getattr(mechanism, "solving", None)
    return named if solving is None else named | {image: solving.coupling}


def coupling_words(named: Mapping[str, str]) -> str:
    """Return couplings as a text, each with its variables.

    Args:
        named: Variable -> coupling, see `couplings`.

    Example:
        >>> coupling_words({"Sex": "monotone", "Edema": "monotone", "Image": "transport"})
        'monotone (Sex, Edema), transport (Image)'
    """
    groups: dict[str, list[str]] = {}
    for name, coupling in named.items():
        groups.setdefault(coupling, []).append(name)
    return ", ".join(f"{coupling} ({', '.join(names)})" for coupling, names in groups.items())
