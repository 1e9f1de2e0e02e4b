"""Small data for tests of the explorer: a model of six variables, phantoms, hostile names."""

import http.client
import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.apps.explorer.workspace import Models, Workspace
from causalcxr.cohort import Cohort
from causalcxr.graph import Graph
from causalcxr.scm import SCM

HOSTILE = '<img src=x onerror="window.hurt=1">'
GRAPH = f"""
name: small
variables:
  Age: {{type: continuous, unit: year, range: [0, 105], resolution: 1, mechanism: empirical}}
  Sex: {{type: binary, levels: [F, M]}}
  View: {{type: categorical, levels: [AP, PA, LATERAL], parents: [Age]}}
  Pleural Effusion: {{type: binary, levels: [N, P], parents: [Age, Sex]}}
  Site: {{type: binary, levels: ['{HOSTILE}', B], parents: [Pleural Effusion]}}
  Image: {{type: image, parents: [Age, Sex, View, Pleural Effusion],
          mechanism: {{kind: radit, size: tiny, resolution: 64, weights: phantom,
                      solver_steps: 4}}}}
"""
COMMAND = (
    "import sys, typer; from causalcxr.apps.cli.explorer import explore; "
    "from causalcxr.apps.cli.command import guarded; "
    "from causalcxr.apps.cli.verbs import verb; app = typer.Typer(); verb(app)(explore); "
    "sys.exit(guarded(app, sys.argv[1:], name='app'))"
)


@cache
def patients(n=24, seed=0):
    """Return phantoms with one more variable, Site, which depends on the effusion."""
    cohort = Cohort.load("phantom", n=n, seed=seed)
    table = cohort.table[["Age", "Sex", "View", "Pleural Effusion"]]
    rng = np.random.default_rng(seed)
    sick = (table["Pleural Effusion"] == "P").to_numpy()
    table["Site"] = np.where(rng.random(n) < np.where(sick, 0.8, 0.3), "B", HOSTILE)
    return Cohort(table, cohort.images, source=cohort.source)


@cache
def fitted():
    """Return a model of the small graph."""
    training = patients(300, seed=5).with_images(None)
    return SCM(Graph.parse(GRAPH)).fit(training, progress=False)


def small_workspace(folder, model=None, cohorts=None):
    """Return a workspace in memory."""
    models = Models("small", fitted() if model is None else model, "model")
    return Workspace(models, cohorts or {"patients": patients()}, Path(folder) / "new")


def hostile_table(file, n=5):
    """Write a cohort whose record names are markup."""
    table = patients(n, seed=9).table
    table.index = pd.Index([f"{HOSTILE}{k}" for k in range(n)], name="record")
    table.to_csv(file)
    return file


def written_world(folder):
    """Write a model, patients and a hostile table to a folder, and return it."""
    fitted().save(folder / "small")
    patients(6).save(folder / "patients")
    hostile_table(folder / "hostile.csv")
    return folder


class Served:
    """An explorer in a separate process, with the link that it printed."""

    def __init__(self, folder, *words, port=0):
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
        words = [*map(str, words), "--port", str(port), "--no-show", "--out", f"{folder}/new"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *words], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env=env, cwd=folder,
        )  # fmt: skip
        lines = [self.process.stdout.readline()]
        while "explorer: http" not in lines[-1]:
            assert lines[-1], lines
            lines.append(self.process.stdout.readline())
        self.link = lines[-1].split(" ")[1]
        self.port = int(self.link.split(":")[2].strip("/"))

    def stop(self, how=signal.SIGTERM):
        """Stop the process; return its exit code and output."""
        self.process.send_signal(how)
        output = self.process.communicate(timeout=30)[0]
        return self.process.returncode, output

    def ask(self, path, content=None, **headers):
        """Return status, headers and content of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            body = (
                content if content is None or isinstance(content, bytes) else json.dumps(content)
            )
            kind_header = {"content-type": "application/json"} if isinstance(body, str) else {}
            kind = "GET" if body is None else "POST"
            connection.request(kind, path, body, kind_header | headers)
            reply = connection.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read()
        finally:
            connection.close()
