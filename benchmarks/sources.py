"""Time and memory of harmonising seven data sets, and whether every cell is correct.

    python -m benchmarks sources

The tables are simulated in the published formats, with the marginals of CXR7-1M (1,205,494 rows;
`--quick`: one twentieth). Writing them is not timed. A separate process reads them, and its time
and peak memory are reported; every cell of every row is compared with the truth. The real table of
ChestX-ray14 is read if it is available.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import Row, stopwatch
from benchmarks._cxr7_tables import FINDINGS_PUBLISHED, PUBLISHED, write
from causalcxr.sources.policy import FINDINGS

__all__ = ["main"]

_QUICK = 0.05
_READ = """
import json, sys, time
import numpy as np
from pathlib import Path
from causalcxr.sources import harmonise
from causalcxr.sources.harmonised import combined
from causalcxr.sources.policy import CXR7
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
seconds, parts = {}, []
for name in sys.argv[3].split(","):
    start = time.perf_counter()
    policy = CXR7.with_(labels="labels.csv") if name == "rexgradient" else CXR7
    parts.append(harmonise(folder / name, policy, name))
    seconds[name] = time.perf_counter() - start
start = time.perf_counter()
table = combined(parts)
seconds["combined"] = time.perf_counter() - start
busy = time.process_time()
columns = sys.argv[4].split(",")
status = Path("/proc/self/status").read_text()
peak = int(status.split("VmHWM:")[1].split()[0]) / 2**20
codes = {n: c.cat.codes if hasattr(c, "cat") else c for n, c in table.table[columns].items()}
levels = {n: list(c.cat.categories) for n, c in table.table[columns].items() if hasattr(c, "cat")}
np.savez(out, **{name: column.to_numpy() for name, column in codes.items()})
report = {"seconds": seconds, "busy": busy, "gib": peak, "rows": len(table), "levels": levels}
print(json.dumps(report))
"""
_COLUMNS = ("Dataset", "View", "Sex", "Age", "Race", *FINDINGS)
_NAMES = ("mimic", "rexgradient", "chexpert_plus", "padchest", "nih", "brax", "vindr")


def _row(figure: str, value: object, target: str = "") -> Row:
    return {"figure": figure, "value": value, "target": target}


def main(quick: bool = False) -> list[Row]:
    """Return times, memory and the number of incorrect cells."""
    scale = _QUICK if quick else 1.0
    with tempfile.TemporaryDirectory() as path:
        folder, out = Path(path), Path(path) / "table.npz"
        truth = write(folder, scale)
        command = [
            sys.executable,
            "-c",
            _READ,
            path,
            str(out),
            ",".join(_NAMES),
            ",".join(_COLUMNS),
        ]
        process = subprocess.run(command, capture_output=True, text=True)
        if process.returncode:
            raise RuntimeError(process.stderr[-500:])
        report = json.loads(process.stdout)
        table = _table(out, report["levels"])
    rows = [_row(f"{name}, s", seconds) for name, seconds in report["seconds"].items()]
    rows += [
        _row("all seven, s", sum(report["seconds"].values()), "<= 90"),
        _row("processor time, s (imports included)", report["busy"]),
        _row("peak memory, GiB", report["gib"], "<= 4"),
        _row("rows", report["rows"], "1,205,494" if not quick else ""),
        _row("cells that differ from the truth", _n_wrong(table, truth), "0"),
        _row("marginals that differ from those published", _marginals(table, scale), "0"),
    ]
    return rows + _real()


def _table(file: Path, levels: dict[str, list[str]]) -> pd.DataFrame:
    """Return the table that the reading process wrote."""
    with np.load(file, allow_pickle=False) as columns:
        return pd.DataFrame(
            {
                name: pd.Categorical.from_codes(columns[name], levels[name])
                if name in levels
                else columns[name]
                for name in columns
            }
        )


def _n_wrong(table: pd.DataFrame, truth: dict[str, pd.DataFrame]) -> int:
    """Return how many cells differ from the truth."""
    all_rows = pd.concat([truth[name] for name in _NAMES], ignore_index=True)
    n_wrong = 0
    for name in all_rows:
        values = table[name].astype(object).where(table[name].notna(), "")
        n_wrong += int((values.to_numpy() != all_rows[name].to_numpy()).sum())
    return n_wrong


def _marginals(table: pd.DataFrame, scale: float) -> int:
    """Return how many published counts are not met exactly."""
    targets = {
        (name, level): n for name, levels in PUBLISHED.items() for level, n in levels.items()
    }
    for name, counts in FINDINGS_PUBLISHED.items():
        targets |= {(name, level): n for level, n in zip("PN", counts, strict=True)}
    return sum(
        int((table[name] == level).sum()) != round(n * scale)
        for (name, level), n in targets.items()
    )


def _real() -> list[Row]:
    from causalcxr.sources.datasets.nih import harmonise

    folder = Path(os.environ.get("CAUSALCXR_DATA", "")) / "nih"
    if not folder.is_dir():
        return []
    harmonise(folder)
    with stopwatch() as watch:
        rows = len(harmonise(folder))
    return [_row(f"ChestX-ray14, the real table of {rows:,} rows, s", watch.seconds, "<= 3")]
