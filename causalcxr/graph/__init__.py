"""The causal graph: variables, YAML files, edits, drawings; interventions on its variables."""

from causalcxr.graph.graph import Graph
from causalcxr.graph.variables import Variable

__all__ = ["Graph", "Variable"]
