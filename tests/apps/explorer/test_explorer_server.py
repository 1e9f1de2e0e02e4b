"""The explorer's server: local only, one-line errors, tables do not wait for images."""

import http.client
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from explorers import HOSTILE
from PIL import Image

from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.explorer import explore
from causalcxr.apps.cli.verbs import verb
from causalcxr.apps.explorer.uploads import MAX_BYTES

pytest.importorskip("nicegui")
from causalcxr.apps.explorer.service import MAX_UPLOADS


@pytest.fixture(scope="module")
def folder(world):
    return world["folder"]


@pytest.fixture(scope="module")
def server(world):
    return world["server"]


def who(row=0, cohort="patients", **fields):
    return {"model": "small", "patient": {"cohort": cohort, "row": row}} | fields


def told(reply):
    return reply[0], json.loads(reply[2])


def test_page_is_self_contained_and_escapes_names(server):
    status, headers, content = server.ask("/")
    page = content.decode()
    assert status == 200
    assert HOSTILE not in page
    assert "https://" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "http" not in policy
    assert headers["cache-control"] == "no-store"
    assert server.ask("/", Host="evil.example")[0] == 400
    assert server.ask("/", Host=f"localhost:{server.port}")[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/docs", "/openapi.json", "/static/nothing.js", "/static/..%2fserving.py", "/static/app.py",
     "/api/download/exe", "/serving.py"],
)  # fmt: skip
def test_unknown_paths_return_404(server, path):
    status, _, content = server.ask(path, who() if "download" in path else None)
    assert status == 404
    assert b"causalcxr.apps.explorer" not in content


def test_question_returns_table_assumptions_graph_and_doses(server):
    request = who(settings={"Pleural Effusion": "P"})
    status, table = told(server.ask("/api/ask", request))
    assert status == 200
    assert table["words"] == "do(Pleural Effusion=P)"
    assert table["python"].startswith("cx.SCM.load('small').counterfactual(cx.Cohort.load(")
    assert set(told(server.ask("/api/assumptions", request))[1]) == {
        "couplings",
        "warnings",
        "image_coupling",
    }
    assert told(server.ask("/api/graph", request))[1]["svg"].startswith("<svg")
    dose = told(server.ask("/api/dose", {"request": request, "variable": "Age"}))[1]
    assert len(dose["doses"]) >= 2
    thumb = server.ask("/api/thumb?model=small&cohort=patients&row=1")
    assert (thumb[0], thumb[1]["content-type"]) == (200, "image/png")


REFUSED = [
    ("/api/ask", who(settings={"Age": 500}), "outside the range"),
    ("/api/ask", who(99), "no record 99"),
    ("/api/ask", who(cohort="/etc/passwd"), "no cohort '/etc/passwd' here"),
    ("/api/factual", who(cohort="hostile.csv"), "no image"),
    ("/api/download/png", who(settings={"Sex": "M"}), "not rendered yet"),
    ("/api/dose", {"request": who(), "variable": "Sex"}, "no numbers to vary"),
    ("/api/patients", {"cohort": "patients", "model": "x"}, "no model 'x' here"),
]


@pytest.mark.parametrize(("path", "given", "why"), REFUSED, ids=[each[2] for each in REFUSED])
def test_invalid_question_returns_one_line(server, path, given, why):
    status, found = told(server.ask(path, given))
    assert status == 422
    assert why in found["error"]
    assert "\n" not in found["error"]


def test_malformed_request_is_refused(server):
    assert server.ask("/api/ask", {"model": "small"})[0] == 422
    assert server.ask("/api/ask", b"model=small")[0] == 422
    assert server.ask("/api/ask", who(settings={"Age": [1]}))[0] == 422
    assert server.ask("/api/upload", b"x")[0] == 400
    assert server.ask("/api/upload", bytes(MAX_BYTES + 1), **{"x-file-name": "a.png"})[0] == 413


BODY = '{"model": "small", "patient": {"cohort": "patients", "row": 0}, "settings": %s}'
INVALID = [
    ("/api/ask", BODY % '{"Age": NaN}', "settings.Age: Input should be a finite number"),
    ("/api/ask", BODY % '{"Age": -Infinity}', "settings.Age: Input should be a finite number"),
    ("/api/ask", BODY % '{"Age": 1e999}', "settings.Age: Input should be a finite number"),
    ("/api/ask", BODY % '{"Sex": "\\ud800"}', "a lone surrogate"),
    ("/api/ask", BODY % '{"\\udfff": 1}', "a lone surrogate"),
    ("/api/ask", BODY % '{}, "\\ud800": 1', "a lone surrogate"),
    ("/api/radiograph", BODY % '{"Age": NaN}', "settings.Age: Input should be a finite number"),
    ("/api/download/json", BODY % '{"Sex": "\\ud800"}', "a lone surrogate"),
    ("/api/dose", '{"request": %s, "variable": "Age"}' % (BODY % '{"Age": NaN}'),
     "a finite number"),
    ("/api/dose-radiographs", '{"request": %s, "variable": "\\ud83d"}' % (BODY % "{}"),
     "a lone surrogate"),
    ("/api/patients", '{"cohort": "patients", "model": "small", "filters": {"Age": {"low": NaN}}}',
     "filters.Age.low: Input should be a finite number"),
    ("/api/patients", '{"cohort": "patients", "model": "small", "filters": {"Age": {"low": "x"}}}',
     "Age: give numbers from and to"),
    ("/api/patients", '{"cohort": "patients", "model": "small", "page": NaN}', "page: Input"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "why"), INVALID, ids=range(len(INVALID)))
def test_invalid_json_values_return_422(server, path, body, why):
    kind = {"content-type": "application/json"}
    status, found = told(server.ask(path, body.encode(), **kind))
    assert status == 422
    assert why in found["error"]
    assert "\n" not in found["error"]


def test_values_beyond_the_range_are_answered_on_every_route(server):
    request = who(settings={"Age": 150}, beyond_range=True)
    status, table = told(server.ask("/api/ask", request))
    assert status == 200
    assert next(line for line in table["lines"] if line["name"] == "Age")["twin"] == "150 year"
    assert "beyond_range=True" in table["python"]
    assert server.ask("/api/assumptions", request)[0] == 200
    assert server.ask("/api/graph", request)[0] == 200
    last = server.ask("/api/radiograph", request)[2].splitlines()[-1]
    assert json.loads(last) == {"done": True}
    kept = told(server.ask("/api/download/json", request))[1]
    assert kept["provenance"]["beyond_range"] is True


def handshake(server, path, **headers):
    """Return the status of a websocket's handshake."""
    request = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("GET", path, headers=request | headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_requests_of_other_origins_are_refused(server):
    socket = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    ours = f"http://127.0.0.1:{server.port}"
    assert handshake(server, socket, Origin=ours) == 101
    assert handshake(server, socket) == 101  # no browser
    local = {"Host": f"localhost:{server.port}", "Origin": f"http://localhost:{server.port}"}
    assert handshake(server, socket, **local) == 101
    others = ["https://evil.example", "null", "", "http://127.0.0.1:1", "http://[::1",
              f"http://127.0.0.1.evil.example:{server.port}"]  # fmt: skip
    for other in others:
        assert handshake(server, socket, Origin=other) == 403, other
        polling = "/_nicegui_ws/socket.io/?EIO=4&transport=polling"
        assert server.ask(polling, Origin=other)[0] == 403, other
        assert told(server.ask("/api/ask", who(), Origin=other)) == (
            403,
            {"error": "the request comes from a page of another site"},
        )
    assert server.ask("/api/ask", who(), Origin=ours)[0] == 200


def children(process):
    """Return how many processes a process has started that still run."""
    listed = (task / "children" for task in Path(f"/proc/{process}/task").iterdir())
    return sum(len(file.read_text().split()) for file in listed if file.exists())


@pytest.mark.slow  # forty processes start one after the other
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_concurrent_uploads_use_few_decoders(server):
    content = io.BytesIO()
    Image.fromarray(np.full((64, 64), 99, np.uint8)).save(content, "PNG")
    drop = partial(server.ask, "/api/upload", content.getvalue(), **{"x-file-name": "a.png"})
    before, most = children(server.process.pid), 0
    with ThreadPoolExecutor(40) as pool:
        replies = [pool.submit(drop) for _ in range(40)]
        while not all(reply.done() for reply in replies):
            most = max(most, children(server.process.pid) - before)
            time.sleep(0.01)
    assert [reply.result()[0] for reply in replies] == [200] * 40
    assert 1 <= most <= MAX_UPLOADS


def test_radiograph_events_arrive_in_order_and_pair_downloads(server):
    request = who(settings={"Sex": "M", "Age": 30})
    lines = [json.loads(line) for line in server.ask("/api/radiograph", request)[2].splitlines()]
    steps = [event["step"] for event in lines if "step" in event]
    assert steps == list(range(1, lines[-3]["steps"] + 1))
    assert lines[-1] == {"done": True}
    assert (lines[-2]["image"]["height"], lines[-2]["image"]["width"]) == (64, 64)
    status, headers, content = server.ask("/api/download/png", request)
    assert (status, content[:4]) == (200, b"\x89PNG")
    assert headers["content-disposition"] == 'attachment; filename="causalcxr-pair.png"'
    assert server.ask("/api/download/dicom", request)[2][:2] == b"PK"
    assert json.loads(server.ask("/api/download/json", request)[2])["words"].startswith("do(")
    assert b"import causalcxr as cx" in server.ask("/api/download/python", request)[2]
    assert told(server.ask("/api/radiograph", who(cohort="hostile.csv")))[1] == {
        "error": "this record has no image"
    }


def test_tables_do_not_wait_for_images(server):
    done = []

    def film():
        lines = server.ask("/api/dose-radiographs", {"request": who(2), "variable": "Age"})[
            2
        ].splitlines()
        done.append((time.monotonic(), json.loads(lines[-1])))

    other = threading.Thread(target=film)
    other.start()
    time.sleep(0.3)
    before = []
    for age in range(20, 25):
        assert server.ask("/api/ask", who(3, settings={"Age": age}))[0] == 200
        before.append(time.monotonic())
    other.join(120)
    finished, last = done[0]
    assert last == {"done": True}
    assert before[0] < finished  # the table came while images were still being made


WRONG = [
    (["nowhere", "phantom:n=4"], "nowhere: no model here"),
    (["small", "nothing.csv"], "nothing.csv"),
    (["small", "phantom:n=0"], "n"),
    (["small", "patients", "--port", "70000"], "give another --port"),
]


@pytest.mark.parametrize(("words", "why"), WRONG, ids=[each[1] for each in WRONG])
def test_invalid_command_line_prints_one_line(folder, monkeypatch, capsys, words, why):
    import typer

    monkeypatch.chdir(folder)
    app = typer.Typer()
    verb(app)(explore)
    assert guarded(app, [*words, "--no-show"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert why in err
    assert err.count("\n") == 1
