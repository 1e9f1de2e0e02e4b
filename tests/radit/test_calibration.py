"""Weights of transport that are calibrated without true twins."""

from types import SimpleNamespace

import pytest
import torch

from causalcxr.common.errors import ModelError
from causalcxr.graph.variables import Variable
from causalcxr.radit.calibration import Calibration, calibrate, shrunk_slopes
from causalcxr.radit.shape import RadiTConfig
from causalcxr.radit.transformer import RadiT
from causalcxr.radit.weights import add_to_header, adopt_weights, save_radit, saved_calibration

SHAPE = RadiTConfig(resolution=16, patch=4, width=32, depth=1, heads=2)
VARIABLES = [
    Variable("Sex", "binary", levels=("F", "M")),
    Variable("Effusion", "binary", levels=("N", "P")),
    Variable("Age", "continuous", range=(20.0, 90.0)),
    Variable("Nothing", "binary", levels=("N", "P")),
    Variable("Constant", "binary", levels=("N", "P")),
]
NAMES = [v.name for v in VARIABLES]
SLOPES = {"Sex": 0.6, "Effusion": 0.9, "Age": 0.75, "Nothing": 0.0, "Constant": 0.0}


def effects(columns):
    """Return the true effect of each variable on images of 16 x 16 pixels."""
    corner = torch.zeros(1, 1, 16, 16)
    corner[..., 8:, :4] = 1.0
    rest = torch.linspace(0.5, 1, 256).view(1, 1, 16, 16)
    scaled = {
        "Sex": columns["Sex"],
        "Effusion": columns["Effusion"],
        "Age": (columns["Age"] - 55) / 35,
    }
    patterns = {"Sex": 0.6 * rest, "Effusion": corner, "Age": 0.4 * rest.flip(2)}
    return {n: x.float().nan_to_num().view(-1, 1, 1, 1) * patterns[n] for n, x in scaled.items()}


class Undershooting:
    """A flow whose effects are a known share of the true ones."""

    config, mean = SHAPE, None
    conditioner = SimpleNamespace(names=tuple(NAMES))

    def embed_condition(self, columns, rows):
        return sum(SLOPES[name] * effect for name, effect in effects(columns).items())

    def __call__(self, x, t, condition):
        return condition


@pytest.fixture(scope="module")
def records():
    generator = torch.Generator().manual_seed(0)
    n = 1500
    columns = {name: torch.randint(2, (n,), generator=generator).double() for name in NAMES}
    columns["Age"] = 20 + 70 * torch.rand(n, generator=generator).double()
    columns["Sex"][::7] = torch.nan
    columns["Constant"][:] = 1.0
    images = 0.2 * torch.randn(n, 1, 16, 16, generator=generator)
    return images + sum(effects(columns).values()), columns


@pytest.fixture(scope="module")
def calibration(records):
    images, columns = records
    return calibrate(Undershooting(), VARIABLES, lambda rows: images[rows], columns)


@pytest.mark.parametrize("name", ["Sex", "Effusion", "Age"])
def test_weight_undoes_a_known_undershoot(calibration, name):
    row = {row["variable"]: row for row in calibration.rows()}[name]
    assert row["slope"] == pytest.approx(SLOPES[name], rel=0.1)
    assert row["weight"] == pytest.approx(1 / SLOPES[name], rel=0.1)
    assert row["error"] < 0.05


def test_threshold_is_higher_for_a_local_effect(calibration):
    rows = {row["variable"]: row for row in calibration.rows()}
    assert rows["Effusion"]["threshold"] > 0.2 > 0.1 > rows["Sex"]["threshold"] >= 0.05


def test_variables_without_an_effect_have_the_overall_weight(calibration):
    rows = {row["variable"]: row for row in calibration.rows()}
    assert rows["Constant"]["slope"] is rows["Nothing"]["slope"] is None
    before = dict.fromkeys(NAMES, torch.zeros(2).double())
    after = before | {"Constant": torch.ones(2), "Nothing": torch.tensor([torch.nan, 1.0])}
    weight, threshold = calibration.settings(before, after)
    assert torch.equal(weight, calibration.overall[:1].expand(2))
    assert 1 / 0.9 < weight[0] < 1 / 0.6
    assert (threshold == 0.15).all()


def test_several_variables_use_the_mean_weighted_by_their_effects(calibration):
    facts = dict.fromkeys(NAMES, torch.zeros(3).double())
    twins = facts | {
        "Sex": torch.tensor([1.0, 0.0, 1.0]),
        "Effusion": torch.tensor([0.0, 1.0, 1.0]),
    }
    sex, effusion, both = calibration.settings(facts, twins)[0].tolist()
    rows = {row["variable"]: row for row in calibration.rows()}
    assert (sex, effusion) == (rows["Sex"]["weight"], rows["Effusion"]["weight"])
    sizes = dict(zip(NAMES, calibration.table[:, 3].tolist(), strict=True))
    share = sizes["Sex"] / (sizes["Sex"] + sizes["Effusion"])
    assert both == pytest.approx(share * sex + (1 - share) * effusion)
    # A record's weight does not depend on the others.
    alone = calibration.settings(*({n: c[2:] for n, c in x.items()} for x in (facts, twins)))[0]
    assert alone.item() == both


def test_uncertain_slopes_are_shrunk_and_outliers_clipped():
    slopes, errors = torch.tensor([0.5, 0.7, 0.9]), torch.tensor([0.01, 0.01, 5.0])
    shrunk, mean = shrunk_slopes(slopes, errors)
    torch.testing.assert_close(shrunk[:2], slopes[:2], rtol=0, atol=0.01)
    assert shrunk[2] == pytest.approx(mean.item(), abs=0.01)
    one, mean = shrunk_slopes(slopes[:1], errors[:1])
    assert one.item() == mean.item() == 0.5


def test_calibration_without_records_is_refused():
    empty = {name: torch.zeros(0) for name in NAMES}
    with pytest.raises(ModelError, match="calibration needs records with images"):
        calibrate(Undershooting(), VARIABLES, lambda rows: torch.zeros(0), empty)


def test_calibration_is_stored_in_the_header_of_weights(calibration, tmp_path):
    net, path, out = (
        RadiT(SHAPE, VARIABLES),
        tmp_path / "a.safetensors",
        tmp_path / "b.safetensors",
    )
    save_radit(path, net)
    assert saved_calibration(path) == ""
    add_to_header(path, out, calibration=calibration.to_json())
    again = Calibration.from_json(saved_calibration(out), NAMES)
    assert torch.equal(again.table.nan_to_num(9), calibration.table.nan_to_num(9))
    assert torch.equal(again.overall, calibration.overall)
    # The tensors are the same; a network that is calibrated is saved with its calibration.
    adopted = adopt_weights(out, SHAPE, VARIABLES)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in adopted.state_dict().items())
    net.calibration = calibration
    save_radit(out, net)
    assert saved_calibration(out) == calibration.to_json()
    assert adopt_weights(out, SHAPE, VARIABLES).calibration is None


def test_calibration_of_other_variables_and_damaged_ones(calibration):
    other = Calibration.from_json(calibration.to_json(), ["Age", "Height"])
    assert [row["slope"] is None for row in other.rows()] == [False, True]
    for text in ("{", "[]", '{"weight": 1}', '{"weight": 1, "threshold": 0, "variables": []}'):
        with pytest.raises(ModelError, match=r"cannot be read .*; calibrate the weights again"):
            Calibration.from_json(text, NAMES)
