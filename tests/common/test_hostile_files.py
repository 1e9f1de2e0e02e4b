"""Files that somebody made to do harm: in a terminal, a spreadsheet, a parser, or by links."""

import csv
import io
import logging
import re
import sys
from pathlib import Path
from time import monotonic

import numpy as np
import pandas as pd
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import causalcxr
from causalcxr import SCM, Cohort, Graph, sources
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app
from causalcxr.apps.training.radit_config import RunConfig, overridden, read_config
from causalcxr.apps.training.vae_config import VAEConfig
from causalcxr.common.errors import CausalCXRError, CohortError
from causalcxr.common.spreadsheet import csv_text, marked, unmarked, unmarked_table
from causalcxr.common.terminal import VisibleStream, visible, visible_streams
from causalcxr.sources.label_maps import LabelMap
from causalcxr.sources.store.spec import Spec

EVIL = "\x1b]0;owned\x07\x1b[2J\x1b[8mhidden\u202etxt\u2066\x9b31m\r"

# Terminals


def steers(text: str) -> list[str]:
    return [c for c in text if (ord(c) < 32 and c not in "\n\t") or c in "\u202e\u2066\x9b\x7f"]


def test_control_characters_are_escaped():
    assert visible("a\tb\nc é 漢 \u200d") == "a\tb\nc é 漢 \u200d"
    assert visible("\x1b[2J\u202e\x9b\x7f\r") == r"\x1b[2J\u202e\x9b\x7f\x0d"
    assert visible("file\udc80") == r"file\udc80"  # a name that is no UTF-8


def test_cohort_show_escapes_control_characters(tmp_path, capsys):
    table = pd.DataFrame({f"Note{EVIL}": [f"x{EVIL}", "y"], "Age": [61, 47]}, index=["a", "b"])
    Cohort(table, source=f"[bold]{EVIL}").described(f"[/red]{EVIL}", f"note{EVIL}").save(
        tmp_path / "c"
    )
    assert guarded(app, ["cohort", "show", str(tmp_path / "c")]) == 0
    shown = capsys.readouterr()
    assert not steers(shown.out + shown.err)
    assert "hidden" in shown.out
    assert "[/red]" in shown.out


def test_error_messages_escape_control_characters(tmp_path, capsys):
    folder = tmp_path / f"x{EVIL[:20]}"
    assert guarded(app, ["cohort", "show", f"{folder}/{EVIL}.csv"]) == 2
    file = tmp_path / "t.csv"
    file.write_text(f"record,Sex\na,{EVIL[:-1]}\n")
    assert guarded(app, ["graph", "check", f"{tmp_path}/{EVIL}"]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("error:") == 2
    assert not steers(shown.out + shown.err)


class Screen(io.StringIO):
    def isatty(self):
        return True


def test_terminal_passes_only_colours_and_progress():
    screen = Screen()
    ours = "\x1b[1mbold\x1b[0m\r\x1b[2K\x1b[1A\x1b[?25l"
    foreign = "\x1b]0;title\x07\x1b[2J\x1b[5i\u202e\x9b1m"
    VisibleStream(screen).write(ours + foreign)
    assert screen.getvalue() == ours + visible(foreign)
    redirected = io.StringIO()
    VisibleStream(redirected).write(ours)
    assert not steers(redirected.getvalue())


def test_streams_are_restored_after_a_command():
    before = sys.stdout, sys.stderr
    with visible_streams():
        assert isinstance(sys.stderr, VisibleStream)
        assert sys.stdout.encoding == before[0].encoding
        sys.stderr.writelines(["a\n"])
    assert (sys.stdout, sys.stderr) == before


def test_server_log_escapes_control_characters(capsys):
    loggers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "uvicorn.access")]
    before = [(each.handlers[:], each.level, each.propagate) for each in loggers]
    try:
        with visible_streams():
            uvicorn.Config(app=None)  # sets up the log, as a server that is started does
            logging.getLogger("uvicorn.error").error("no such page: %s", EVIL)
            told = ("127.0.0.1:1", "GET", f"/{EVIL}", "1.1", 404)
            logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', *told)
    finally:
        for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
    shown = capsys.readouterr()
    assert "no such page" in shown.err
    assert "GET" in shown.out
    assert not steers(shown.out + shown.err)


# Spreadsheets


FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "＝1+1",
    "'=1",
    "''-x",
]


def active(text: str) -> list[str]:
    """Return the cells of a .csv that a spreadsheet would take for formulas."""
    cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    return [c for c in cells if c[:1] in tuple("=+-@\t\r＝") and not is_number(c)]


def is_number(text: str) -> bool:
    try:
        return bool(float(text)) or True
    except ValueError:
        return False


@pytest.mark.parametrize("text", FORMULAS)
def test_formula_is_restored_from_a_csv_as_text(text):
    check_restored(text)


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=12))
def test_any_text_is_restored_from_a_csv_and_is_no_formula(text):
    check_restored(text)


def check_restored(text: str) -> None:
    assert unmarked(marked(text)) == text
    assert not active(csv_text(pd.DataFrame({"x": [text]}), index=False).replace("\0", ""))


def test_numbers_are_written_unchanged():
    table = pd.DataFrame({"x": [-0.5, 2.0], "y": [-1, 1], "z": ["-1", "+2.5e-3"]})
    assert csv_text(table) == ",x,y,z\n0,-0.5,-1,-1\n1,2.0,1,+2.5e-3\n"
    assert [marked(t) for t in ("-1.5", "+3", "-", "-x", "1-2")] == [
        "-1.5",
        "+3",
        "'-",
        "'-x",
        "1-2",
    ]


def test_headings_and_indexes_are_texts_too():
    index = pd.MultiIndex.from_product([["=a", "b"], [0, 1]], names=["=record", "draw"])
    table = pd.DataFrame({"@x": [1, 2, 3, 4], ("=v", "l"): list("abcd")}, index=index)
    written = csv_text(table)
    assert not active(written)
    assert written.splitlines()[0].startswith("'=record,draw,'@x")
    assert unmarked_table(pd.read_csv(io.StringIO(written)))["=record"].tolist() == [
        "=a", "=a", "b", "b",
    ]  # fmt: skip


def test_saved_cohort_has_no_formula_and_loads_unchanged(tmp_path):
    table = pd.DataFrame({"=note": FORMULAS, " spaced ": range(len(FORMULAS))}, index=FORMULAS)
    cohort = Cohort(table, patients=[f"@{k}" for k in range(len(FORMULAS))])
    folder = cohort.save(tmp_path / "c")
    assert not active((folder / "cohort.csv").read_bytes().decode())
    loaded = Cohort.load(folder)
    assert loaded.table.to_dict() == cohort.table.to_dict()
    assert loaded.index.tolist() == FORMULAS
    assert loaded.patients.tolist() == cohort.patients.tolist()
    again = Cohort.load(folder / "cohort.csv")  # as a table, by anybody
    assert again.index.tolist() == FORMULAS
    assert again.table["=note"].tolist() == FORMULAS


def test_twins_and_answers_have_no_formula(tmp_path):
    graph = Graph.parse(
        "variables: {Age: {type: continuous, mechanism: empirical},"
        " Site: {type: categorical, levels: ['=1+1', '@b'], mechanism: empirical}}"
    )
    table = pd.DataFrame({"Age": [61.0, -47.0, 3.0], "Site": ["=1+1", "@b", "@b"]})
    table.index = ["=a", "-b", "c"]
    cohort = Cohort(table)
    model = SCM(graph).fit(cohort)
    model.save(tmp_path / "model")
    cohort.save(tmp_path / "cohort")
    asked = [tmp_path / "model", tmp_path / "cohort", "--do", "Site=@b"]
    for verb in ("counterfactual", "effect"):
        words = [verb, *asked, "--out", tmp_path / verb]
        assert guarded(app, list(map(str, words))) == 0
    written = [*(tmp_path / "counterfactual").glob("*.csv"), *(tmp_path / "effect").glob("*.csv")]
    assert len(written) >= 2
    for file in written:
        assert not active(file.read_bytes().decode()), file
    assert (
        Cohort.load(tmp_path / "counterfactual/twins.csv").index.tolist() == table.index.tolist()
    )


def test_every_csv_is_written_by_the_one_function():
    package = Path(causalcxr.__file__).parent
    writers = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if re.search(r"\.to_csv\((?!new)|csv\.(writer|DictWriter)", file.read_text())
    }
    assert writers == {"common/spreadsheet.py"}


# YAML


BOMB = "out: &a0 [x, x]\n" + "".join(f"k{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


def readers(file):
    return {
        "graph": lambda: Graph.load(file),
        "run": lambda: read_config(file, RunConfig),
        "run, by a word": lambda: overridden({}, ["out=[&a x, *a]"]),
        "autoencoder": lambda: read_config(file, VAEConfig),
        "store": lambda: Spec.load(file),
        "labels": lambda: LabelMap.read(file),
    }


@pytest.mark.parametrize("name", readers(""))
def test_a_yaml_bomb_is_refused_before_it_is_expanded(tmp_path, name):
    file = tmp_path / "bomb.yaml"
    file.write_text(BOMB)  # two to the power of 40 values
    start = monotonic()
    with pytest.raises(CausalCXRError, match=r"anchor or alias 'a0?': write"):
        readers(file)[name]()
    assert monotonic() - start < 5


def test_radit_train_refuses_a_yaml_bomb_in_one_line(tmp_path, capsys):
    file = tmp_path / "bomb.yaml"
    file.write_text(BOMB)
    assert guarded(app, ["radit", "train", str(file)]) == 2
    assert re.fullmatch(r"error: \S+bomb\.yaml:1: anchor or alias .*\n", capsys.readouterr().err)


def test_no_other_reader_of_yaml_is_in_the_package():
    package = Path(causalcxr.__file__).parent
    found = {
        f.name for f in package.rglob("*.py") if re.search(r"YAML\(|yaml\.load", f.read_text())
    }
    assert found == {"yaml_file.py"}


# Links


def picture(file: Path, grey: int = 7) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((64, 64), grey, np.uint8)).save(file)


NIH = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
    "a.png,No Finding,0,1,61,F,PA\nb.png,No Finding,0,2,47,M,PA\n"
)


def test_no_image_of_nih_leads_out_of_its_folder(tmp_path):
    folder, outside = tmp_path / "nih", tmp_path / "private"
    picture(outside / "b.png")
    picture(folder / "images_64/a.png")
    (folder / "images_64/b.png").symlink_to(outside / "b.png")
    (folder / "Data_Entry_2017.csv").write_text(NIH)
    read = sources.load(folder)
    assert read.images.available.tolist() == [True, False]
    (folder / "images_064").symlink_to(outside)
    (folder / "images_128").symlink_to(outside)
    read = sources.load(folder, size=128)
    assert read.images.available.tolist() == [True, False]
    assert any("images_128 is a link out of" in note for note in read.notes)
    inside = folder / "images_256"
    inside.symlink_to(folder / "images_64")  # a link that stays inside is as good as a folder
    assert sources.load(folder, size=256).images.available.tolist() == [True, False]


def test_no_folder_of_a_published_data_set_leads_out_of_it(tmp_path):
    folder, outside = tmp_path / "nih", tmp_path / "private"
    picture(outside / "a.png")
    folder.mkdir()
    (folder / "Data_Entry_2017.csv").write_text(NIH)
    (folder / "images").symlink_to(outside)
    found = sources.harmonise(folder)
    assert not any(found.images)
    assert "images-linked-away" in {rule.name for rule in found.rules}


def test_no_image_of_a_table_or_a_saved_cohort_leads_out_of_its_folder(tmp_path):
    picture(tmp_path / "private.png")
    picture(tmp_path / "images/a.png")
    (tmp_path / "images/b.png").symlink_to(tmp_path / "private.png")
    (tmp_path / "images/c.png").symlink_to(tmp_path / "images/a.png")
    (tmp_path / "t.csv").write_text("record,Age\na,61\nb,47\nc,52\n../private,1\n")
    cohort = Cohort.load(tmp_path / "t.csv", images=tmp_path / "images")
    assert cohort.images.available.tolist() == [True, False, True, False]
    saved = cohort.save(tmp_path / "saved")
    image = saved / "images/a.png"
    image.rename(tmp_path / "moved.png")
    image.symlink_to(tmp_path / "moved.png")
    with pytest.raises(CohortError):
        Cohort.load(saved)
