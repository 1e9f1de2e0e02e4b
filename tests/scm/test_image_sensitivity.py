"""Sensitivity of images: the twins of the same records under both couplings of the image."""

from copy import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from explorers import fitted, patients

from causalcxr import do
from causalcxr.common.errors import InterventionError, MechanismError
from causalcxr.mechanisms.image import ImageMechanism
from causalcxr.mechanisms.image_equation import Chunk
from causalcxr.scm.identity import coupling_words, couplings, model_identity
from causalcxr.scm.questions.sensitivity import Sensitivity


def brightness(images):
    """Return a score of images."""
    return images.mean((1, 2, 3))


@pytest.fixture(scope="module")
def women():
    return patients().select("Sex == 'F'")


@pytest.fixture(scope="module")
def result(women) -> Sensitivity:
    return fitted().sensitivity(women, do(sex="M"), images=2, classifier=brightness)


def with_coupling(model, coupling, **options):
    mechanism = copy(model.fitted["Image"].mechanism.with_coupling(coupling))
    mechanism.options = mechanism.options | options
    mechanism.chunk = Chunk(2)  # two images need no batch of sixteen
    image = replace(model.fitted["Image"], mechanism=mechanism)
    return model._with(fitted={**model.fitted, "Image": image})


def test_each_coupling_has_the_change_of_its_own_twins(result, women):
    factual = women.head(2).images[:]
    twins = [
        with_coupling(fitted(), coupling).counterfactual(women.head(2), do(sex="M")).images[:]
        for coupling in ("inversion", "transport")
    ]
    row = result.images.loc["change of the image"]
    sizes = [np.abs(twin - factual).mean() for twin in twins]
    assert [row["inversion"], row["transport"]] == pytest.approx(sizes, abs=1e-5)
    difference = np.abs(twins[0] - twins[1]).mean()
    assert row["difference"] == pytest.approx(difference, abs=1e-5)
    assert row["relative_difference"] == pytest.approx(difference / np.mean(sizes), abs=1e-3)
    assert (row["model"], row["records"]) == ("inversion", 2)
    score = result.images.loc["change of the score"]
    effects = [brightness(twin).mean() - brightness(factual).mean() for twin in twins]
    assert [score["inversion"], score["transport"]] == pytest.approx(effects, abs=1e-5)


def test_discrete_answers_do_not_depend_on_the_images(result, women):
    without = fitted().sensitivity(women.with_images(None), do(sex="M"))
    pd.testing.assert_frame_equal(result.table, without.table)
    assert without.images.empty
    assert list(without.tables) == ["table"]


def test_images_are_shown_drawn_and_written(result, tmp_path):
    assert "change of the image" in str(result)
    assert len(result.plot().axes) == 2
    folder = result.save(tmp_path / "there")
    written = pd.read_csv(folder / "images.csv", index_col="measure")
    assert written["transport"].tolist() == pytest.approx(result.images["transport"].tolist())


def test_no_image_is_computed_where_none_changes_or_none_is_wanted(women, monkeypatch):
    def refuse(self, columns):
        raise AssertionError("an image was computed")

    monkeypatch.setattr(ImageMechanism, "forward", refuse)
    assert fitted().sensitivity(women, do(sex="M"), images=0).images.empty
    assert fitted().sensitivity(women, do(site="B")).images.empty


def test_number_of_images_is_a_whole_number(women):
    with pytest.raises(InterventionError, match="the option images is a whole number"):
        fitted().sensitivity(women, do(sex="M"), images="all")


def test_another_coupling_takes_its_own_defaults_and_shares_the_weights():
    mechanism = fitted().fitted["Image"].mechanism
    other = mechanism.with_coupling("transport")
    assert (mechanism.solving.coupling, mechanism.solving.steps) == ("inversion", 4)
    assert (other.solving.coupling, other.solving.steps) == ("transport", 12)
    assert other.net is mechanism.net
    assert mechanism.with_coupling("inversion") is mechanism
    with pytest.raises(MechanismError, match="coupling is 'none'; expected inversion or transp"):
        mechanism.with_coupling("none")


def test_coupling_of_the_image_is_part_of_what_is_recorded(women):
    model = with_coupling(fitted(), "transport")
    assert couplings(model)["Image"] == "transport"
    assert model_identity(model)["coupling"] == couplings(model)
    assert model_identity(model)["solver"] == "transport, an edit of 12 steps"
    assert coupling_words(couplings(model)).endswith("transport (Image)")
    note = model.counterfactual(women.head(1), do(sex="M")).notes[-1]
    assert note == "do(Sex=M); coupling of the images: transport, an edit of 12 steps"


def test_twins_under_transport_depend_on_record_seed_and_draw_only(women):
    model, two = with_coupling(fitted(), "transport", edits=1, solver_steps=2), women.head(2)
    twins = model.counterfactual(two, do(sex="M"), draws=2)
    first, other = (twins.images[k::2] for k in range(2))
    assert not np.array_equal(first, other)
    backwards = model.counterfactual(two.at([1, 0]), do(sex="M"))
    assert np.array_equal(backwards.images[:], first[::-1])
    alone = model.counterfactual(two.at([1]), do(sex="M"), seed=0)
    assert np.array_equal(alone.images[:], first[1:])
    reseeded = model.counterfactual(two.at([1]), do(sex="M"), seed=1)
    assert not np.array_equal(reseeded.images[:], first[1:])
