"""What tells one fitted model from another, for manifests of results."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from causalcxr.scm.scm import SCM

__all__ = ["couplings", "equation_hashes", "model_identity"]


def model_identity(model: "SCM") -> dict[str, Any]:
    """Return the name and hash of a model's graph, and the hash of each equation."""
    return {
        "graph": model.graph.name,
        "graph_hash": model.graph.hash,
        "mechanisms": equation_hashes(model),
    }


def equation_hashes(model: "SCM") -> dict[str, str]:
    """Return the hash of each fitted equation, by variable."""
    return {name: fitted.hash for name, fitted in model.fitted.items()}


def couplings(model: "SCM") -> dict[str, str]:
    """Return the coupling that each discrete variable's equation assumes."""
    options = {name: model.graph[name].mechanism.options for name in model.graph.tabular}
    return {name: each["coupling"] for name, each in options.items() if "coupling" in each}
