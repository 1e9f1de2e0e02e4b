"""The table tests on the oldest and the newest pandas, and on each Python that is supported.

    pipx run nox                            # every Python and pandas that is here
    pipx run nox -s "tables-3.11(pandas='2.2.3')"

Where an index's torch is the CUDA build, PIP_EXTRA_INDEX_URL can name that of the CPU builds:
https://download.pytorch.org/whl/cpu
"""

from pathlib import Path

import nox

nox.options.error_on_missing_interpreters = False

PYTHONS = ("3.11", "3.12", "3.13")
PANDAS = ("2.2.3", "3.1.1")
# What reads, checks, changes, selects, compares or writes tables.
TABLES = (
    "alignment", "asking", "audit_groups", "audit_inputs", "beyond_range", "cohort",
    "cohort_input", "cohort_report", "conditions", "csv_reading", "effects_result",
    "extreme_numbers", "fuzz_tables", "interventions", "interventions_faults", "nih",
    "old_folders", "probabilities", "provenance", "scm", "small_cohorts",
    "source_faults", "source_golden", "source_parts", "source_policy", "source_readings",
    "sources_faults", "store", "twin_dtypes", "twin_folder",
)  # fmt: skip


@nox.session(python=PYTHONS)
@nox.parametrize("pandas", PANDAS)
def tables(session: nox.Session, pandas: str) -> None:
    """Run the table tests with one version of pandas, all else as in constraints.txt."""
    pinned = Path("constraints.txt").read_text(encoding="utf-8").splitlines()
    others = Path(session.create_tmp()) / "constraints.txt"
    kept = [line for line in pinned if not line.startswith("pandas==")]
    others.write_text("\n".join(kept) + "\n", encoding="utf-8")
    extras = "test,app,store,codecs,codecs-gpl"
    session.install("-c", str(others), f"pandas=={pandas}", "-e", f".[{extras}]")
    files = [f"tests/test_{name}.py" for name in TABLES]
    session.run("pytest", "-m", "not slow", *files, *session.posargs, env={"OMP_NUM_THREADS": "1"})
