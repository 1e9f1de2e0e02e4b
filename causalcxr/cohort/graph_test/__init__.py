"""Can the graph be wrong? Tests of what a graph implies, on the records of a cohort."""

from causalcxr.cohort.graph_test.result import GraphTest
from causalcxr.cohort.graph_test.testing import run_graph_test

__all__ = ["GraphTest", "run_graph_test"]
