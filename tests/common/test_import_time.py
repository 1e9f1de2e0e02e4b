"""A graph is read without torch, and the package is imported at once."""

import subprocess
import sys
import time


def run(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def test_import_takes_under_300_ms():
    code = "import time; t = time.perf_counter(); import causalcxr; t = time.perf_counter() - t; "
    code += "assert t < 0.3, t"
    failures = []
    for _ in range(3):
        try:
            run(code)
        except subprocess.CalledProcessError as error:
            failures.append(error)
    assert len(failures) < 3


def test_loading_a_graph_does_not_import_torch():
    run(
        "import sys, causalcxr; causalcxr.Graph.load('mini'); "
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )


def test_package_lists_its_names_and_refuses_others():
    run(
        "import causalcxr as cx; assert set(cx.__all__) <= set(dir(cx)); "
        "assert cx.__version__ and cx.Cohort is cx.Cohort; assert not hasattr(cx, 'Kohort')"
    )
