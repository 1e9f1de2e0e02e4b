"""The graphs that come with the package, by name."""

from pathlib import Path

from causalcxr.common.errors import GraphError, brief, nearest

__all__ = ["bundled_graph", "bundled_graphs"]


def bundled_graphs() -> dict[str, Path]:
    """Return the bundled graph files by name: of the wheel, or else of the repository.

    Example:
        >>> sorted(bundled_graphs())
        ['cxr7', 'cxr7-acquisition', 'mini', 'nih']
    """
    here = Path(__file__).parent
    folders = [here / "bundled_graphs", here.parents[1] / "graphs"]
    return {file.stem: file for folder in reversed(folders) for file in folder.glob("*.yaml")}


def bundled_graph(name: str) -> Path:
    """Return the file of a bundled graph.

    Raises:
        GraphError: If there is no such graph.
    """
    graphs = bundled_graphs()
    if name not in graphs:
        hint = nearest(name, graphs) or f" (bundled: {', '.join(sorted(graphs))})"
        raise GraphError(f"no bundled graph {brief(name)}{hint}; or give a path ending in .yaml")
    return graphs[name]
