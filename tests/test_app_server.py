"""The explorer's server: this machine only, one line for what is wrong, nobody waits for films."""

import json
import signal
import threading
import time

import pytest
from explorers import HOSTILE, laid_out, served

from causalcxr.app.dropping import MOST
from causalcxr.cli_app import explore
from causalcxr.command import guarded

pytest.importorskip("nicegui")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return laid_out(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def server(folder):
    with served(folder, "small", "patients", "hostile.csv") as running:
        yield running


def who(row=0, cohort="patients", **fields):
    return {"model": "small", "who": {"cohort": cohort, "row": row}} | fields


def told(reply):
    return reply[0], json.loads(reply[2])


def test_given_the_page_then_it_keeps_to_itself_and_escapes_what_is_hostile(server):
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
def test_given_what_is_nobodys_business_then_it_is_not_there(server, path):
    status, _, content = server.ask(path, who() if "download" in path else None)
    assert status == 404
    assert b"causalcxr.app" not in content


def test_given_a_question_then_table_doubt_graph_and_dose_are_json(server):
    asked = who(settings={"Pleural Effusion": "P"})
    status, table = told(server.ask("/api/ask", asked))
    assert status == 200
    assert table["words"] == "do(Pleural Effusion=P)"
    assert table["python"].startswith("cx.SCM.load('small').counterfactual(cx.Cohort.load(")
    assert set(told(server.ask("/api/doubt", asked))[1]) == {"couplings", "warnings"}
    assert told(server.ask("/api/graph", asked))[1]["svg"].startswith("<svg")
    dose = told(server.ask("/api/dose", {"asked": asked, "variable": "Age"}))[1]
    assert len(dose["doses"]) >= 2
    thumb = server.ask("/api/thumb?model=small&cohort=patients&row=1")
    assert (thumb[0], thumb[1]["content-type"]) == (200, "image/png")


REFUSED = [
    ("/api/ask", who(settings={"Age": 500}), "outside the range"),
    ("/api/ask", who(99), "no record 99"),
    ("/api/ask", who(cohort="/etc/passwd"), "no cohort '/etc/passwd' here"),
    ("/api/factual", who(cohort="hostile.csv"), "no image"),
    ("/api/download/png", who(settings={"Sex": "M"}), "not made yet"),
    ("/api/dose", {"asked": who(), "variable": "Sex"}, "no numbers to vary"),
    ("/api/patients", {"cohort": "patients", "model": "x"}, "no model 'x' here"),
]


@pytest.mark.parametrize(("path", "given", "why"), REFUSED, ids=[each[2] for each in REFUSED])
def test_given_what_cannot_be_answered_then_one_line_says_why(server, path, given, why):
    status, found = told(server.ask(path, given))
    assert status == 422
    assert why in found["error"]
    assert "\n" not in found["error"]


def test_given_what_no_page_sends_then_it_is_refused(server):
    assert server.ask("/api/ask", {"model": "small"})[0] == 422
    assert server.ask("/api/ask", b"model=small")[0] == 422
    assert server.ask("/api/ask", who(settings={"Age": [1]}))[0] == 422
    assert server.ask("/api/drop", b"x")[0] == 400
    assert server.ask("/api/drop", bytes(MOST + 1), **{"x-file-name": "a.png"})[0] == 413


def test_given_a_film_then_its_events_come_one_by_one_and_the_pair_can_be_taken(server):
    asked = who(settings={"Sex": "M", "Age": 30})
    lines = [json.loads(line) for line in server.ask("/api/film", asked)[2].splitlines()]
    steps = [event["step"] for event in lines if "step" in event]
    assert steps == list(range(1, lines[-3]["steps"] + 1))
    assert lines[-1] == {"done": True}
    assert (lines[-2]["image"]["height"], lines[-2]["image"]["width"]) == (64, 64)
    status, headers, content = server.ask("/api/download/png", asked)
    assert (status, content[:4]) == (200, b"\x89PNG")
    assert headers["content-disposition"] == 'attachment; filename="causalcxr-pair.png"'
    assert server.ask("/api/download/dicom", asked)[2][:2] == b"PK"
    assert json.loads(server.ask("/api/download/json", asked)[2])["words"].startswith("do(")
    assert b"import causalcxr as cx" in server.ask("/api/download/python", asked)[2]
    assert told(server.ask("/api/film", who(cohort="hostile.csv")))[1] == {
        "error": "this record has no image"
    }


def test_given_a_strip_of_films_then_another_users_table_does_not_wait_for_it(server):
    done = []

    def film():
        lines = server.ask("/api/strip", {"asked": who(2), "variable": "Age"})[2].splitlines()
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
def test_given_a_wrong_word_then_the_command_says_so_in_one_line(
    folder, monkeypatch, capsys, words, why
):
    import typer

    monkeypatch.chdir(folder)
    app = typer.Typer()
    app.command()(explore)
    assert guarded(app, [*words, "--no-show"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert why in err
    assert err.count("\n") == 1


def test_given_an_end_by_the_system_then_the_server_stops_cleanly_and_quietly(server):
    code, printed = server.stop(signal.SIGTERM)  # the last test: nobody needs it any more
    assert code in (0, -signal.SIGTERM)
    # NiceGUI tells of paths that are not there, and nothing else was told.
    assert [line for line in printed.splitlines() if not line.endswith(" not found")] == []
