"""The same tasks here, in processes and on a cluster: the same results, the same errors."""

import os
import signal
import subprocess
import sys
import time

import pytest

from causalcxr.common.errors import CausalCXRError, CohortError
from causalcxr.common.parallel import run


def scaled(shared: dict, task: int) -> tuple[int, int]:
    """Return a task times what is shared, and the process that did it."""
    if task < 0:
        raise CohortError(f"task {task} is negative")
    if task == shared.get("deadly"):
        os.kill(os.getpid(), signal.SIGKILL)
    return task * shared["factor"], os.getpid()


def test_one_worker_runs_tasks_in_order_in_this_process():
    asked = []

    def tasks():
        for task in range(5):
            asked.append(task)
            yield task

    done = run(scaled, tasks(), {"factor": 3})
    assert next(done) == (0, os.getpid())
    assert asked == [0]
    assert [value for value, _ in done] == [3, 6, 9, 12]


def test_workers_run_each_task_once_and_end():
    done = list(run(scaled, range(40), {"factor": 3}, workers=2))
    assert sorted(value for value, _ in done) == list(range(0, 120, 3))
    processes = {process for _, process in done}
    assert os.getpid() not in processes
    assert 1 <= len(processes) <= 2
    assert not any(is_alive(process) for process in processes)


def test_error_or_death_of_a_worker_is_reported_and_ends_all():
    with pytest.raises(CohortError, match="task -1 is negative"):
        list(run(scaled, [1, -1, 2], {"factor": 3}, workers=2))
    with pytest.raises(CausalCXRError, match=r"a worker process died.*run the same command again"):
        list(run(scaled, [1, 7, 2], {"factor": 3, "deadly": 7}, workers=2))


def test_workers_end_with_their_parent(tmp_path):
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from causalcxr.common.parallel import run; from test_parallel import named\n"
        "list(run(named, range(2), sys.argv[2], workers=2))"
    )
    command = [sys.executable, "-c", code, os.path.dirname(__file__), str(tmp_path)]
    with subprocess.Popen(command) as job:
        wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
        job.kill()
    processes = [int(file.name) for file in tmp_path.iterdir()]
    wait_for(lambda: not any(map(is_alive, processes)))


def named(folder: str, task: int) -> None:
    """Say which process this is, and work for a long time."""
    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(600)


def is_alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_impossible_workers_or_scheduler_give_one_line():
    with pytest.raises(CausalCXRError, match="workers 0: give at least 1"):
        run(scaled, [1], {}, workers=0)


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two workers on this machine, each a process of its own."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0
    ) as running:
        yield running.scheduler_address


@pytest.mark.slow
def test_cluster_gives_the_results_of_one_process(cluster):
    done = list(run(scaled, range(40), {"factor": 3}, cluster=cluster))
    assert sorted(value for value, _ in done) == list(range(0, 120, 3))
    assert os.getpid() not in {process for _, process in done}
    with pytest.raises(CohortError, match="task -1 is negative"):
        list(run(scaled, [1, -1], {"factor": 3}, cluster=cluster))


def test_missing_scheduler_gives_one_line():
    pytest.importorskip("distributed")
    with pytest.raises(CausalCXRError, match=r"cluster 'nowhere': no scheduler answers \("):
        list(run(scaled, [1], {}, cluster="nowhere"))
