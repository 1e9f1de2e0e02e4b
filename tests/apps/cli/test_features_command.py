"""`causalcxr radit features`, and pairs and evaluations that use what it trains."""

import json

import pytest

from causalcxr import SCM, Cohort
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app
from causalcxr.apps.cli.pairs import ReaderOptions
from causalcxr.common.errors import AuditError
from causalcxr.graph import Graph
from causalcxr.radit.features import load_cross_fitted

PEOPLE = "phantom:n=60,seed=5,size=32"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    words = ["radit", "features", PEOPLE, "--out", folder / "f.safetensors", "--epochs", 1]
    assert run([*words, "--folds", 2]) == 0
    return folder


def run(words) -> int:
    return guarded(app, [str(word) for word in words], name="causalcxr")


def test_weights_and_card_have_the_quality_on_unseen_patients(place):
    card = json.loads((place / "f.json").read_text())
    assert card["data"] == {
        "cohort": PEOPLE, "source": "phantom", "images": 60, "patients": 60, "size": [32, 32],
    }  # fmt: skip
    assert card["training"]["folds"] == 2
    assert set(card["readers_on_unseen_patients"]["Sex"]) >= {"value", "low", "high", "slope"}
    assert len(load_cross_fitted(place / "f.safetensors").folds) == 2


def test_finished_features_are_not_trained_again(place, capsys):
    before = (place / "f.safetensors").read_bytes()
    words = ["radit", "features", PEOPLE, "--out", place / "f.safetensors", "--epochs", 1]
    assert run([*words, "--folds", 2]) == 0
    assert (place / "f.safetensors").read_bytes() == before
    assert run([*words, "--folds", 3]) == 2
    assert "another run" in capsys.readouterr().err


def test_pairs_record_the_features(place, capsys):
    graph = Graph.parse("variables: {Sex: {type: binary, levels: [F, M]}}")
    cohort = Cohort.load("phantom", n=60, seed=1).with_images(None)
    SCM(graph).fit(cohort).save(place / "model")
    words = ["pairs", place / "model", PEOPLE, "--do", "sex=M", "--reader", PEOPLE]
    assert run([*words, "--features", place / "f.safetensors", "--out", place / "p"]) == 0
    told = capsys.readouterr().out
    assert "Quality of the reader on patients that it has not seen" in told
    about = json.loads((place / "p" / "manifest.json").read_text())
    assert (
        about["reader_details"]["features"] == load_cross_fitted(place / "f.safetensors").content
    )
    assert about["identity"]["reader_features"] == about["reader_details"]["features"]
    assert run([*words, "--out", place / "q"]) == 0
    assert "The reader was trained on 60 of these patients" in capsys.readouterr().out


def test_options_that_do_not_fit_are_refused(place):
    file = str(place / "f.safetensors")
    with pytest.raises(AuditError, match="--features without --reader"):
        ReaderOptions(features=file).load_features()
    with pytest.raises(AuditError, match="--folds 7: the features have 2 folds"):
        ReaderOptions(reader=PEOPLE, features=file, folds=7).load_features()
