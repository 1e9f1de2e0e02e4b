"""What tests of the command line share: one demo, with a model of cxr7 and the bundled weights."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from causalcxr.apps.cli.demo import DemoOptions, demo


@pytest.fixture(scope="session")
def demonstration(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a small demo, and what the command printed."""
    out, printed = tmp_path_factory.mktemp("demonstration") / "demo", StringIO()
    with redirect_stdout(printed):
        demo(DemoOptions(out=out, n=12, images=2))
    return out, printed.getvalue()
