"""The speed of reading and building a store, and whether interrupted builds give the same bytes.

    python -m benchmarks store

Reading: batches of 64 random records from cached files, compared with the same images from PNG
files, by Pillow alone and as a cohort reads them, and with an array in memory. Target: 20 times
the speed of decoding PNG. Building: a store of a folder of 16-bit PNGs, by one process and by two.
Kills: `kill -9` at ten random moments, then one run to the end; the store must equal, byte for
byte, that of an uninterrupted build.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import Row, stopwatch
from benchmarks._phantom_images import phantom_images
from causalcxr import Cohort
from causalcxr.images.file_images import FileImages
from causalcxr.sources.store.building import build

__all__ = ["main"]

_BATCH = 64
_RUN = "from causalcxr.apps.cli.main import main; main()"


def saved(folder: Path, n: int, size: int) -> Path:
    """Write phantoms as 16-bit PNGs, with noise in the lower 8 bits.

    The 256 bodies are repeated with different noise, because rendering takes long.
    """
    cohort, images = phantom_images(n=256, size=size, seed=1)
    rows, random = np.arange(n) % 256, np.random.default_rng(0)
    cohort = Cohort(cohort.table.iloc[rows].reset_index(drop=True))
    pixels = images[rows].astype(np.uint16) * 257
    # The noise of a detector does not compress; 8 bits stored as 16 would be too easy.
    pixels -= np.minimum(pixels, random.integers(0, 64, pixels.shape, dtype=np.uint16))
    return Cohort(cohort.table, pixels, source="phantom").save(folder / f"saved-{size}")


def rate(read: object, n: int, seconds: float) -> float:
    """Return images per second of a function that reads random rows, the best of several runs."""
    random, best = np.random.default_rng(0), 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not best:
        rows = random.integers(0, n, _BATCH)
        with stopwatch() as watch:
            read(rows)
        best = max(best, _BATCH / watch.seconds)
    return best


def reading(folder: Path, n: int, size: int, seconds: float) -> list[Row]:
    """Compare methods of reading the same images."""
    source = saved(folder, n, size)
    store = Cohort.load(built(folder, source, size)).images
    files = FileImages([source / f"images/{k}.png" for k in range(n)])
    array, paths = store.grey_levels(slice(None)), files.paths
    levels, images = store.grey_levels(slice(0, 8)), files[slice(0, 8)]
    assert (levels == np.rint(images[:, 0] * 65535)).all()

    def by_pillow(rows: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(Image.open(paths[row])) for row in rows]

    png = rate(by_pillow, n, seconds)
    ways = {
        "PNG, Pillow alone": png,
        "PNG, as a cohort reads it": rate(lambda rows: files[rows], n, seconds),
        "store, uint16": rate(store.grey_levels, n, seconds),
        "store, float32": rate(lambda rows: store[rows], n, seconds),
        "array in memory, uint16": rate(lambda rows: array[rows], n, seconds),
    }
    return [
        {"what": f"{way}, {size} pixels", "images/s": speed, "times PNG": speed / png}
        for way, speed in ways.items()
    ]


def built(folder: Path, source: Path, size: int, workers: int = 1) -> Path:
    """Build a store of a saved cohort."""
    spec = folder / f"spec-{size}.yaml"
    shard = size * size / 2**14  # 32 images a shard
    text = f"output: unused\nsize: {size}\nshard: {shard}\nsources: [{{path: {source}}}]\n"
    spec.write_text(text)
    return build(spec, output=folder / f"store-{size}-{workers}", workers=workers)


def building(folder: Path, n: int, size: int) -> list[Row]:
    """Measure a build by one process and by two."""
    rows = []
    shutil.rmtree(folder / f"store-{size}-1")  # a complete store would not be built again
    for workers in (1, 2):
        with stopwatch() as watch:
            built(folder, folder / f"saved-{size}", size, workers)
        what = f"build of {n} PNGs of {size} pixels, {workers} worker(s)"
        rows.append({"what": what, "images/s": n / watch.seconds, "seconds": watch.seconds})
    assert contents(folder / f"store-{size}-1") == contents(folder / f"store-{size}-2")
    return rows


def kills(folder: Path, size: int, times: int) -> Row:
    """Kill a build several times, let it finish, and compare the files."""
    random, out = np.random.default_rng(2), folder / "killed"
    words = ["cohort", "build", folder / f"spec-{size}.yaml", "--out", out, "--workers", 2]
    command = [sys.executable, "-c", _RUN, *map(str, words)]
    notes, killed = folder / ".killed.unfinished/notes", 0
    for _ in range(times):
        before = len(list(notes.glob("*.json"))) if notes.is_dir() else 0
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as job:
            # At any moment after the build has begun, also while a shard is being written.
            while job.poll() is None and not notes.is_dir():
                time.sleep(0.001)
            time.sleep(float(random.uniform(0, 4)))
            job.send_signal(signal.SIGKILL)
            killed += job.wait() == -signal.SIGKILL
        left = len(list(notes.glob("*.json"))) if notes.is_dir() else 0
        assert out.exists() or left >= before
    build(folder / f"spec-{size}.yaml", output=out)
    same = contents(out) == contents(folder / f"store-{size}-1")
    return {"what": f"{killed} of {times} runs killed, then finished", "same bytes": str(same)}


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file of a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def main(quick: bool = False) -> list[Row]:
    """Return the speeds, and whether the interrupted build gave the same bytes."""
    sizes = {128: 256} if quick else {128: 2048, 512: 1024}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size, n in sizes.items():
            rows += reading(folder, n, size, 0.5 if quick else 3)
            rows += building(folder, n, size)
        last = max(sizes)
        rows.append(kills(folder, last, 2 if quick else 10))
    return rows
