"""The tests of tables on the oldest and the newest pandas, and on each supported Python.

    pipx run nox                            # every installed Python, every pandas
    pipx run nox -s "tables-3.11(pandas='2.2.3')"

If the index has the CUDA build of torch, PIP_EXTRA_INDEX_URL can name the index of the CPU builds:
https://download.pytorch.org/whl/cpu
"""

from pathlib import Path

import nox

nox.options.error_on_missing_interpreters = False

PYTHONS = ("3.11", "3.12", "3.13")
PANDAS = ("2.2.3", "3.1.1")
# Tests of code that reads, checks, changes, selects, compares or writes tables.
TABLES = (
    "apps/cli/test_twin_folder",
    "audit/test_audit_inputs",
    "audit/test_groups",
    "cohort/test_cohort",
    "cohort/test_cohort_input",
    "cohort/test_conditions",
    "cohort/test_csv_reading",
    "cohort/test_fuzz_tables",
    "cohort/test_old_folders",
    "cohort/test_small_cohorts",
    "cohort/test_twin_dtypes",
    "common/test_alignment",
    "common/test_extreme_numbers",
    "graph/test_arguments",
    "graph/test_beyond_range",
    "graph/test_interventions",
    "graph/test_interventions_faults",
    "images/test_synthetic_mark",
    "scm/test_effects_result",
    "scm/test_probabilities",
    "scm/test_scm",
    "sources/test_nih",
    "sources/test_report",
    "sources/test_source_faults",
    "sources/test_source_golden",
    "sources/test_source_parts",
    "sources/test_source_policy",
    "sources/test_source_readings",
    "sources/test_sources_faults",
    "sources/test_store",
)


@nox.session(python=PYTHONS)
@nox.parametrize("pandas", PANDAS)
def tables(session: nox.Session, pandas: str) -> None:
    """Run the tests of tables with one version of pandas, all else as in constraints.txt."""
    pinned = Path("constraints.txt").read_text(encoding="utf-8").splitlines()
    others = Path(session.create_tmp()) / "constraints.txt"
    kept = [line for line in pinned if not line.startswith("pandas==")]
    others.write_text("\n".join(kept) + "\n", encoding="utf-8")
    extras = "test,app,store,codecs,codecs-gpl"
    session.install("-c", str(others), f"pandas=={pandas}", "-e", f".[{extras}]")
    files = [f"tests/{name}.py" for name in TABLES]
    session.run("pytest", "-m", "not slow", *files, *session.posargs, env={"OMP_NUM_THREADS": "1"})
