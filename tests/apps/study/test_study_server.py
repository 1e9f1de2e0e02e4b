"""The server of a reader study: a kill loses no answer, and nothing tells the truth."""

import json
import signal
import threading
import time

import pytest
from reader_studies import PAPER, Served, served, small_study

from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.study import app
from causalcxr.apps.study.answers import read_answers
from causalcxr.apps.study.simulate import simulate
from causalcxr.common.errors import CausalCXRError, StudyError

pytest.importorskip("nicegui")
HOSTILE = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "s"
    plan = small_study(folder, trials=6, readers=[HOSTILE, "Ben"], title="</script>`${1}`")
    with served(folder) as server:
        yield server, folder, plan


def answer(step, choice=0, confidence=3, seen_ms=1500.0):
    return {"step": step, "choice": choice, "confidence": confidence, "seen_ms": seen_ms}


@pytest.mark.slow  # two servers; the writer alone is killed in test_answers
def test_killed_server_loses_no_answer(tmp_path):
    """100 trials, twice, by three simulated readers at once; the server is killed at 250."""
    folder = tmp_path / "s"
    plan = small_study(folder, trials=100, readers=3)
    asked = simulate(plan, PAPER, seed=2)
    server = Served(folder)
    acknowledged = [[] for _ in plan.readers]
    killed, again, late = threading.Event(), threading.Event(), []

    def read(number):
        at = 0
        while at < plan.steps:
            mine = asked[number][at]
            try:
                status, _, content = server.ask(
                    f"{server.paths[number]}/answer",
                    answer(at, mine.choice, mine.confidence, mine.seen_ms),
                )
            except (OSError, EOFError):
                killed.set()
                again.wait(60)
                state = json.loads(server.ask(f"{server.paths[number]}/state")[2])
                late.append(state["step"] - at)  # 1 where it was saved, but not acknowledged
                continue
            except Exception:  # half a reply of a killed server
                continue
            assert status == 200, content
            acknowledged[number].append(at)
            at += 1
            assert json.loads(content)["step"] == at

    readers = [threading.Thread(target=read, args=(k,)) for k in range(3)]
    for reader in readers:
        reader.start()
    while sum(map(len, acknowledged)) < 250:
        time.sleep(0.002)
    server.stop(signal.SIGKILL)
    killed.wait(30)
    for number in range(3):
        kept = {a.step for a in read_answers(folder, plan, number)}
        assert set(acknowledged[number]) <= kept
    server = Served(folder, server.port)
    again.set()
    for reader in readers:
        reader.join(120)
    server.stop()
    assert len(late) >= 1
    assert set(late) <= {0, 1}
    for number in range(3):
        kept = read_answers(folder, plan, number)
        told = [(a.step, a.choice, a.confidence, a.seen_ms) for a in kept]
        assert told == [(a.step, a.choice, a.confidence, a.seen_ms) for a in asked[number]]
        assert acknowledged[number] == list(range(plan.steps))


def test_page_is_self_contained_and_escapes_names(running):
    server, _, _ = running
    status, headers, content = server.ask(server.paths[0])
    page = content.decode()
    assert status == 200
    assert "<img src=x" not in page
    assert "</script>`" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "http" not in policy
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


def test_replies_do_not_reveal_the_truth(running):
    server, _, plan = running
    state = json.loads(server.ask(f"{server.paths[1]}/state")[2])
    assert set(state) == {
        "title", "reader", "kind", "step", "total", "presentations", "size", "smooth", "phase",
        "presentation", "position", "images", "ahead",
    }  # fmt: skip
    assert server.paths[0].split("/")[2] not in json.dumps(state)
    shown = plan.shown(plan.readers[1], state["step"])
    assert state["images"] == list(shown.images)
    status, headers, content = server.ask(f"{server.paths[1]}/image/{state['images'][0]}.png")
    assert (status, headers["content-type"]) == (200, "image/png")
    assert content.startswith(b"\x89PNG")
    assert not {"last-modified", "etag", "content-disposition"} & set(headers)


NOT_THERE = [
    "/plan.json", "/r/nobody", "/r/nobody/state", "{0}/image/nope.png", "{0}/plan.json",
    "{0}/image/..%2f..%2fplan.json", "{0}/image/../../../plan.json", "/docs", "/openapi.json",
    "/answers/reader-001.jsonl",
]  # fmt: skip


@pytest.mark.parametrize("path", NOT_THERE)
def test_unknown_paths_return_404(running, path):
    server, _, _ = running
    status, _, content = server.ask(path.format(server.paths[0]))
    assert status == 404
    assert b"sha256" not in content


def test_unknown_host_names_are_refused(running):
    server, _, _ = running
    assert server.ask(server.paths[0], Host="evil.example")[0] == 400
    assert server.ask(server.paths[0], Host=f"localhost:{server.port}")[0] == 200


@pytest.mark.parametrize(
    "given",
    [
        {}, [], answer(0, choice=2), answer(0, confidence=0), answer(0, seen_ms=-1.0),
        answer(-1), answer("0"), answer(True), answer(0) | {"at": "now"}, answer(0, seen_ms=1e300),
    ],
)  # fmt: skip
def test_invalid_answer_is_refused(running, given):
    server, folder, plan = running
    status, _, _ = server.ask(f"{server.paths[0]}/answer", given)
    assert status in (409, 422, 503)
    assert read_answers(folder, plan, 0) == []


@pytest.mark.parametrize("seen", ["NaN", "Infinity", "1e999", '"\\ud800"'])
def test_invalid_json_values_return_422(running, seen):
    server, folder, plan = running
    body = f'{{"step": 0, "choice": 0, "confidence": 3, "seen_ms": {seen}}}'
    kind = {"content-type": "application/json"}
    status, _, content = server.ask(f"{server.paths[0]}/answer", body, **kind)
    assert status == 422
    assert "\n" not in json.loads(content)["error"]
    assert read_answers(folder, plan, 0) == []


def test_answer_of_another_site_is_refused(running):
    server, folder, plan = running
    path = f"{server.paths[0]}/answer"
    assert server.ask(path, answer(0), Origin="https://evil.example")[0] == 403
    assert read_answers(folder, plan, 0) == []


def test_repeated_or_early_answer_changes_nothing(running):
    server, folder, plan = running
    path = f"{server.paths[1]}/answer"
    first = json.loads(server.ask(path, answer(0, 1, 5, 1234.56))[2])
    assert (first["phase"], first["position"]) == ("trial", 2)
    second = json.loads(server.ask(path, answer(0, 0, 1))[2])
    assert second == first
    assert server.ask(path, answer(4))[0] == 409
    kept = read_answers(folder, plan, 1)
    assert [(a.choice, a.confidence, a.seen_ms) for a in kept] == [(1, 5, 1234.6)]
    assert kept[0].server_ms > 0
    for step in range(1, 6):
        state = json.loads(server.ask(path, answer(step))[2])
    assert (state["phase"], state["presentation"], state["position"]) == ("break", 2, 1)
    for step in range(6, 12):
        state = json.loads(server.ask(path, answer(step))[2])
    assert state["phase"] == "done"
    assert "images" not in state


def test_second_server_command_is_refused(running, capsys):
    _, folder, _ = running
    assert guarded(app, ["serve", str(folder), "--port", "0"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"error: {folder}: another process serves this study; stop it or use its links\n"


def test_changed_image_or_used_port_is_refused(tmp_path, running):
    from causalcxr.apps.study.server import serve

    folder = tmp_path / "s"
    plan = small_study(folder)
    with pytest.raises(CausalCXRError, match="give another --port"):
        serve(folder, running[0].port)
    image = folder / "images" / f"{plan.trials[0].images[0]}.png"
    image.write_bytes(image.read_bytes()[:-1] + b"\x00")
    with pytest.raises(StudyError, match="is not the image of the plan"):
        serve(folder, 0)
