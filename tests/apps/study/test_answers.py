"""Answers survive: torn lines, repeats, a full disk, a process that is killed while it writes."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from reader_studies import PAPER, small_study

from causalcxr.apps.study.answers import (
    AnswerFile,
    ReaderAnswer,
    answer_path,
    only_server,
    read_answers,
)
from causalcxr.apps.study.plan import StudyPlan
from causalcxr.apps.study.simulate import simulate
from causalcxr.common.errors import StudyError

WRITER = """\
import resource, sys
from causalcxr.apps.study.answers import ReaderAnswer, AnswerFile
from causalcxr.apps.study.plan import StudyPlan
from causalcxr.common.errors import StudyError
folder, limit = sys.argv[1], int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
plan = StudyPlan.load(folder)
file = AnswerFile(folder, plan, 0)
try:
    for step in range(file.position, plan.steps):
        given = ReaderAnswer(step, step * 7 % 3 % 2, 1 + step % 5, float(step))
        file.record(given)
        print(step, flush=True)
except StudyError as fault:
    print(fault)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "s"
    return folder, small_study(folder, trials=100, readers=3)


@pytest.fixture
def study(made):
    folder, plan = made
    for file in (folder / "answers").iterdir():
        file.unlink()
    return folder, plan


def given(step):
    return ReaderAnswer(step, step * 7 % 3 % 2, 1 + step % 5, float(step), 2.0 * step)


def plain(answers):
    return [(a.step, a.choice, a.confidence, a.seen_ms) for a in answers]


def fill(folder, plan, n, number=0):
    file = AnswerFile(folder, plan, number)
    return [file.record(given(step)) for step in range(n)]


def test_another_process_reads_each_answer(study):
    folder, plan = study
    kept = fill(folder, plan, 5)
    assert read_answers(folder, plan, 0) == kept
    assert AnswerFile(folder, plan, 0).position == 5
    assert read_answers(folder, plan, 1) == []
    lines = answer_path(folder, 0).read_text().splitlines()
    head = json.loads(lines[0])
    assert len(head.pop("check")) == 16
    assert head == {"plan": plan.digest, "reader": 0}
    assert json.loads(lines[3])["step"] == 2
    assert json.loads(lines[3])["at"].endswith("+00:00")


def test_file_cut_at_any_byte_loses_one_line(study):
    folder, plan = study
    kept = fill(folder, plan, 3)
    path = answer_path(folder, 0)
    content = path.read_bytes()
    ends = [k + 1 for k, byte in enumerate(content) if byte == 10]
    for cut in [*range(0, ends[2], 9), *range(ends[2] - 2, len(content) + 1)]:
        path.write_bytes(content[:cut])
        whole = max(sum(end <= cut for end in ends) - 1, 0)
        assert read_answers(folder, plan, 0) == kept[:whole]
        file = AnswerFile(folder, plan, 0)
        assert file.position == whole
        file.record(given(whole))
        again = read_answers(folder, plan, 0)
        assert again[:whole] == kept[:whole]
        assert plain(again[whole:]) == plain([given(whole)])


def test_damaged_end_is_cut_off_and_damaged_middle_refused(study):
    folder, plan = study
    kept = fill(folder, plan, 3)
    path = answer_path(folder, 0)
    content = path.read_bytes()
    for rubbish in (b"\x00" * 60, b'{"step": 3', b"\xff\n", b"null\n"):
        path.write_bytes(content + rubbish)
        assert AnswerFile(folder, plan, 0).answers == kept
        assert path.read_bytes() == content
    lines = content.splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\x00\n" + lines[2])
    with pytest.raises(StudyError, match=r"reader-001.jsonl:2: the line is damaged"):
        AnswerFile(folder, plan, 0)
    path.write_bytes(lines[0] + lines[2])
    with pytest.raises(StudyError, match="step 1, expected 0"):
        read_answers(folder, plan, 0)
    path.write_bytes(lines[0] + lines[1].replace(b'"confidence":1', b'"confidence":9') + lines[2])
    with pytest.raises(StudyError, match=r"jsonl:2: the line was changed after"):
        read_answers(folder, plan, 0)


def test_checksum_names_a_changed_line(study):
    folder, plan = study
    fill(folder, plan, 3)
    path = answer_path(folder, 0)
    content = path.read_bytes()
    for old, new in ((b'"choice":0', b'"choice":1'), (b'"choice":1', b'"choice":0')):
        at = content.rfind(old)
        if at < 0:
            continue
        line = content[:at].count(b"\n") + 1
        path.write_bytes(content[:at] + new + content[at + len(old) :])
        with pytest.raises(StudyError, match=rf"jsonl:{line}: the line was changed after"):
            AnswerFile(folder, plan, 0)


def test_file_without_checksums_is_continued(study):
    folder, plan = study
    kept = fill(folder, plan, 2)
    path = answer_path(folder, 0)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    old = [{k: v for k, v in row.items() if k != "check"} for row in rows]
    path.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in old))
    assert AnswerFile(folder, plan, 0).answers == kept
    AnswerFile(folder, plan, 0).record(given(2))
    assert len(read_answers(folder, plan, 0)) == 3


def test_answers_of_another_plan_or_reader_are_refused(study, tmp_path):
    folder, plan = study
    fill(folder, plan, 2)
    other = small_study(tmp_path / "other", trials=4)
    with pytest.raises(StudyError, match="belongs to another plan or reader"):
        read_answers(folder, other, 0)
    answer_path(folder, 0).rename(answer_path(folder, 1))
    with pytest.raises(StudyError, match="belongs to another plan or reader"):
        AnswerFile(folder, plan, 1)


def test_repeated_trial_keeps_the_first_answer(study):
    folder, plan = study
    file = AnswerFile(folder, plan, 0)
    first = file.record(ReaderAnswer(0, 1, 4, 900.0))
    assert file.record(ReaderAnswer(0, 0, 1, 5.0)) == first
    assert file.position == 1
    assert read_answers(folder, plan, 0) == [first]


WRONG = {
    "left out": (ReaderAnswer(1, 0, 1), "step 0 of 200 comes next"),
    "choice": (ReaderAnswer(0, 2, 1), "choice 2: give 0 to 1"),
    "truth": (ReaderAnswer(0, True, 1), "choice True"),
    "confidence": (ReaderAnswer(0, 0, 0), "confidence 0: give 1 to 5"),
    "negative": (ReaderAnswer(-1, 0, 1), "step -1"),
    "time": (ReaderAnswer(0, 0, 1, -1.0), "seen_ms -1.0: give milliseconds"),
    "endless": (ReaderAnswer(0, 0, 1, float("inf")), "seen_ms inf"),
    "words": (ReaderAnswer(0, 0, 1, "x" * 900), "seen_ms 'xxx"),
}


@pytest.mark.parametrize("case", WRONG)
def test_invalid_answer_is_not_written(study, case):
    folder, plan = study
    file = AnswerFile(folder, plan, 0)
    before = file.path.read_bytes()
    answer, message = WRONG[case]
    with pytest.raises(StudyError, match=message):
        file.record(answer)
    assert file.path.read_bytes() == before


def test_answers_after_the_last_are_refused(study):
    folder, plan = study
    file = AnswerFile(folder, plan, 0)
    for step in range(plan.steps):
        file.record(given(step))
    with pytest.raises(StudyError, match="step 200 of 200"):
        file.record(given(plan.steps))


def test_second_server_is_refused(study):
    folder, _ = study
    with only_server(folder):
        second = only_server(folder)
        with pytest.raises(StudyError, match="another process serves this study"):
            second.__enter__()
        told = subprocess.run(
            [sys.executable, "-c",
             "import sys; from causalcxr.apps.study.answers import only_server\n"
             "with only_server(sys.argv[1]): pass", str(folder)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "another process serves this study" in told.stderr
    with only_server(folder):
        pass


def test_full_disk_refuses_the_answer(study):
    folder, plan = study
    told = subprocess.run(
        [sys.executable, "-c", WRITER, str(folder), "2000"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    *acknowledged, fault = told.stdout.splitlines()
    assert "the answer was not saved (" in fault
    content = answer_path(folder, 0).read_bytes()
    assert content.endswith(b"\n")
    assert len(content) <= 2000
    kept = read_answers(folder, plan, 0)
    assert [a.step for a in kept] == list(map(int, acknowledged))
    assert len(kept) > 10


def test_killed_writer_loses_no_acknowledged_answer(study):
    folder, plan = study
    kills, acknowledged = 0, []
    while read_answers(folder, plan, 0)[plan.steps - 1 :] == []:
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), "0"], stdout=subprocess.PIPE, text=True
        )
        for line in writer.stdout:
            acknowledged.append(int(line))
            if len(acknowledged) % 60 == 59:
                time.sleep(0.0007 * (kills % 3))
                os.kill(writer.pid, signal.SIGKILL)
                kills += 1
                break
        acknowledged += map(int, writer.stdout)
        writer.wait()
        writer.stdout.close()
        kept = read_answers(folder, plan, 0)
        assert set(acknowledged) <= {a.step for a in kept}
    assert kills >= 3
    assert plain(kept) == [(s, s * 7 % 3 % 2, 1 + s % 5, float(s)) for s in range(plan.steps)]


def test_simulated_answers_are_read_back(study):
    folder, plan = study
    answers = simulate(plan, PAPER, seed=1)
    for number, row in answers.items():
        file = AnswerFile(folder, plan, number)
        for each in row:
            file.record(each)
    again = StudyPlan.load(folder)
    for number, row in answers.items():
        assert plain(read_answers(folder, again, number)) == plain(row)
