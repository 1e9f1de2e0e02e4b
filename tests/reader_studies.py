"""Small reader studies for tests: pools of noise, simulated readers, a server to be killed."""

import http.client
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.apps.study.creation import draw_reader, make_study
from causalcxr.apps.study.plan import StudyPlan, Trial
from causalcxr.apps.study.simulate import Simulated
from causalcxr.cohort import Cohort

COMMAND = (
    "import sys; from causalcxr.apps.cli.study import app; "
    "from causalcxr.apps.cli.command import guarded; "
    "sys.exit(guarded(app, sys.argv[1:], name='study'))"
)
PAPER = [
    Simulated((0.49, 0.54), 0.42),
    Simulated((0.54, 0.54), 0.23),
    Simulated((0.48, 0.60), 0.27),
]


def pool(n, seed, size=(16, 16), views=("AP", "PA", "LATERAL"), **kwargs):
    """Return a cohort of noise whose views take turns."""
    rng = np.random.default_rng(seed)
    films = rng.integers(0, 256, (n, *size), dtype=np.uint8)
    table = pd.DataFrame(
        {"View": [views[k % len(views)] for k in range(n)], "Age": rng.integers(20, 90, n)},
        index=[f"{seed}-{k:04d}" for k in range(n)],
    )
    return Cohort(table, films, **kwargs)


def small_study(folder, trials=12, **kwargs):
    """Make a study of noise; both pools have half as many images again as it needs."""
    many = 3 * trials
    return make_study(pool(many, 1), pool(many, 2), folder, trials=trials, **kwargs)


def paper_plan(trials=100, names=("A", "B", "C"), strata=({},), seed=0, title="Real?"):
    """Return the plan of pairs without images: analysis and simulation need none."""
    pairs = tuple(
        Trial((f"{k}a", f"{k}b"), (k % 2 == 0, k % 2 == 1), (f"r{k}", f"s{k}"), s)
        for k, s in ((k, strata[k % len(strata)]) for k in range(trials))
    )
    readers = tuple(draw_reader(k, name, pairs, 2, seed) for k, name in enumerate(names))
    pools = {
        name: {"source": "noise", "origin": "", "records": 9, "images": 9, "compared": 9}
        for name in ("real", "synthetic")
    }
    about = {"pools": pools, "made": "2026-11-26", "version": "0.1.0"}
    match = tuple(strata[0])
    return StudyPlan("2afc", title, seed, match, (64, 64), False, pairs, readers, {}, about)


class Served:
    """A server in a process of its own, with the links that it printed."""

    def __init__(self, folder, port=0):
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "serve", str(folder), "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=env,
            cwd=folder,
        )
        readers = len(StudyPlan.load(folder).readers)
        lines = [self.process.stdout.readline() for _ in range(readers)]
        assert all("http://127.0.0.1:" in line for line in lines), lines
        self.links = [line.rsplit(": ", 1)[1].split(" ")[0] for line in lines]
        self.port = int(self.links[0].split(":")[2].split("/")[0])
        self.paths = ["/" + link.split("/", 3)[3] for link in self.links]

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(20)
        self.process.stdout.close()

    def ask(self, path, given=None, **headers):
        """Return status, headers and content of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            body = given if given is None or isinstance(given, str) else json.dumps(given)
            told = {"content-type": "application/json"} if body else {}
            connection.request("POST" if body else "GET", path, body, told | headers)
            reply = connection.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read()
        finally:
            connection.close()


@contextmanager
def served(folder):
    server = Served(folder)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()
