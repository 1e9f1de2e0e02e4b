"""The model of simulated digits: its pixels, equations, true twins and measurements."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logit
from scipy.stats import chisquare, gamma, kstest, spearmanr
from torch import Tensor

from benchmarks import morpho_mnist
from benchmarks.morpho.measure import Ruler, plateau, ridge
from benchmarks.morpho.models import parents
from benchmarks.morpho.questions import Question
from benchmarks.morpho.strokes import NUMBERS, digit_lines, draw_lines
from benchmarks.morpho.table import QUICK, Evaluation, make_table, summarise
from benchmarks.morpho.world import GRAPH, intensities, load, truth
from causalcxr import Cohort, do
from causalcxr.common.errors import CausalCXRError, CohortError
from causalcxr.graph.interventions import Intervention
from causalcxr.mechanisms.base import Columns, Equation

RADIT = "RadiT, transport, narrow"


def line(start: tuple[float, float], end: tuple[float, float], n: int = 1) -> np.ndarray:
    return np.broadcast_to(np.array([[start, end]]), (n, 1, 2, 2))


# Strokes


@pytest.mark.parametrize("offset", [16.0, 16.3, 16.5])
def test_line_across_the_canvas_has_its_thickness(offset):
    t = np.array([0.5, 1.0, 2.3, 3.0, 5.7])
    images = draw_lines(line((-9, offset), (40, offset), 5), t, np.full(5, 80.0))
    assert images.sum(1) == pytest.approx(np.repeat(80 * t[:, None], 32, 1), rel=1e-5)
    assert images[2:].max((1, 2)) == pytest.approx(80.0)


def test_stroke_area_is_a_rectangle_and_two_half_discs():
    t, length = np.array([2.0, 3.0, 5.0]), np.hypot(12, 7)
    images = draw_lines(line((9, 11), (21, 18), 3), t, np.ones(3))
    assert images.sum((1, 2)) == pytest.approx(t * length + np.pi * t**2 / 4, rel=0.02)


def test_style_sets_slant_and_place():
    style = np.zeros((10, NUMBERS))
    plain = digit_lines(np.arange(10), style)
    style[:, 4:6] = [2.0, -1.0]  # half a pixel a deviation
    moved = digit_lines(np.arange(10), style) - plain
    assert moved[..., 0] == pytest.approx(1.0)
    assert moved[..., 1] == pytest.approx(-0.5)
    style[:, 4:6], style[:, 0] = 0, 1.0
    sheared = digit_lines(np.arange(10), style) - plain
    assert sheared[..., 0] == pytest.approx(-0.13 * (plain[..., 1] - 16))
    assert sheared[..., 1] == pytest.approx(0.0)


def test_extreme_styles_stay_on_the_canvas():
    generator = np.random.default_rng(0)
    style = generator.choice([-9.0, 0.0, 9.0], (400, NUMBERS))
    lines = digit_lines(np.arange(400) % 10, style)
    images = draw_lines(lines, np.full(400, 2.5), np.full(400, 255.0))
    edge = np.concatenate([images[:, [0, -1]], images[:, :, [0, -1]].swapaxes(1, 2)], 1)
    assert (edge.max((1, 2)) > 0).mean() < 0.1
    assert lines.min() > -2
    assert lines.max() < 34


# Equations


def test_variables_have_the_published_distributions():
    columns = load(n=4000, seed=5).columns(GRAPH)
    t, i = columns["Thickness"], columns["Intensity"]
    assert kstest(t - 0.5, gamma(10, scale=0.2).cdf).pvalue > 0.01
    e = 2 * (logit((i - 64) / 191) - 2 * (t - 2.5))
    assert kstest(e, "norm").pvalue > 0.01
    assert chisquare(np.bincount(columns["Digit"].astype(int))).pvalue > 0.01
    assert abs(spearmanr(e, t).statistic) < 0.05
    assert abs(spearmanr(columns["Digit"], t).statistic) < 0.05


def test_digits_do_not_depend_on_the_cohort():
    whole, part = load(n=30, seed=1), load(n=12, seed=1)
    rows = np.array([7, 2])
    assert (whole.images[:12] == part.images[:]).all()
    assert (whole.at(rows).images[:] == whole.images[rows]).all()
    assert whole.images[3].shape == (1, 1, 32, 32)
    assert (load(n=12, seed=2).images[:] != part.images[:]).any((1, 2, 3)).all()


def test_empty_cohort_is_refused():
    with pytest.raises(CohortError, match="n=0; n must be at least 1"):
        load(n=0)


# True twins


@pytest.fixture(scope="module")
def digits() -> Cohort:
    return load(n=60, seed=3)


def test_null_intervention_returns_the_digit(digits):
    table = digits.table
    for name in GRAPH.tabular:
        twins = truth(digits, do({name: table[name].to_numpy()}))
        assert (twins.images[:] == digits.images[:]).all()
        assert twins.table.equals(table)


def test_intensity_follows_thickness_with_the_same_noise(digits):
    before, after = digits.table, truth(digits, do(thickness=4.0)).table
    e = 2 * (logit((before["Intensity"] - 64) / 191) - 2 * (before["Thickness"] - 2.5))
    expected = intensities(np.full(60, 4.0), e.to_numpy())
    assert after["Intensity"].to_numpy() == pytest.approx(expected)
    assert (after["Digit"] == before["Digit"]).all()


def test_thicker_strokes_contain_thinner_ones(digits):
    table = digits.table
    pen = table["Thickness"].to_numpy() + 0.5
    twins = truth(truth(digits, do(thickness=pen)), do(intensity=255.0))
    bright = truth(digits, do(intensity=255.0))
    assert (twins.images[:] >= bright.images[:]).all()


def test_intensity_scales_grey_levels(digits):
    twins = truth(digits, do(intensity=200.0))
    ratio = 200 / digits.table["Intensity"].to_numpy()[:, None, None, None]
    assert np.abs(twins.images[:] - ratio * digits.images[:]).max() < 0.5 / 255 * (1 + ratio.max())
    assert (twins.table["Thickness"] == digits.table["Thickness"]).all()


def test_successive_interventions_both_hold(digits):
    twins = truth(truth(digits, do(digit="7")), do(thickness=3.0))
    assert (twins.images[:] == truth(digits, do(digit="7", thickness=3.0)).images[:]).all()
    again = truth(truth(digits, do(digit="7")), do(digit=digits.table["Digit"].to_numpy()))
    assert (again.images[:] == digits.images[:]).all()


def test_other_images_have_no_truth(digits):
    copied = digits.with_images(digits.images.with_pixels(digits.images[:]))
    with pytest.raises(CohortError, match="use digits from morpho"):
        truth(copied, do(digit="1"))


# Measurements


@pytest.fixture(scope="module")
def ruler() -> Ruler:
    return Ruler.calibrate(load(n=300, seed=302))


def test_ruler_errors_are_small_on_held_out_digits(ruler):
    held = load(n=100, seed=9)
    errors = ruler.errors(held.images[:], held.columns(GRAPH))
    assert errors["Thickness"].mean() < 0.08  # pixels, of a deviation of .63
    assert errors["Intensity"].mean() < 0.35  # a grey level is a quarter off by rounding
    assert errors["Digit"].mean() < 0.06


def test_bar_is_measured_as_drawn():
    t = np.array([2.0, 3.0, 4.0])
    images = (
        draw_lines(line((8, 16), (24, 16), 3), t, np.array([90.0, 120.0, 200.0]))[:, None] / 255
    )
    assert plateau(images) == pytest.approx([90.0, 120.0, 200.0])
    assert ridge(images) == pytest.approx(t, abs=0.35)


def test_blank_image_has_no_stroke(ruler):
    found = ruler.measure(np.zeros((1, 1, 32, 32)))
    assert found["Intensity"][0] == 0
    assert found["Thickness"][0] == pytest.approx(ruler.line[0])


def test_ruler_requires_enough_digits():
    with pytest.raises(CausalCXRError, match="draw more records"):
        Ruler.calibrate(load(n=5))


# The table


class Fading(Equation):
    """Keep the image, and lose a share of it on every way."""

    def __init__(self, kept: float) -> None:
        self.kept = kept

    def abduct(self, x: Tensor, draws: object) -> Tensor:
        return x

    def predict(self, u: Tensor) -> Tensor:
        return self.kept * u


def make_question(digits: Cohort, name: str, action: Intervention) -> Question:
    twins = truth(digits, action)
    return Question(name, frozenset({name}), digits, twins, twins.with_images(None))


@pytest.fixture(scope="module")
def evaluation(ruler, digits) -> Evaluation:
    some_digits = digits.head(12)
    questions = [
        make_question(some_digits, "do(thickness)", do(thickness=3.5)),
        make_question(some_digits, "do(digit)", do(digit="8")),
    ]
    return Evaluation(questions, ruler, n_cycled=5)


@pytest.mark.parametrize("kept", [1.0, 0.8])
def test_cycles_measure_the_loss_of_an_equation(evaluation, digits, kept):
    found = evaluation.measure(lambda columns: Fading(kept))
    means = found.groupby(["question", "measure"])["value"].mean()
    grey = 255 * digits.head(5).images[:].mean()
    for question, ways in {"null": 1, "do(thickness)": 2, "do(digit)": 2}.items():
        for k in (1, 10):
            lost = grey * (1 - kept ** (ways * k))
            assert means[question, f"L1, {k}"] == pytest.approx(lost, rel=1e-5, abs=1e-9)
    assert means["do(digit)", "Intensity"] == pytest.approx(
        np.abs((1 - kept) * digits.head(12).table["Intensity"]).mean(), abs=0.5
    )
    beside_copy = means["do(digit)", "error"] / means["do(digit)", "copy"]
    assert (abs(beside_copy - 1) < 1e-6) == (kept == 1)


def test_true_twins_have_no_error(evaluation):
    for question in evaluation.questions:
        row = summarise("true twins", evaluation.measure_images(question, question.true))[0]
        assert row["truth"] == "0.000 (0.000-0.000)"
        assert float(str(row["thickness, px"]).split()[0]) < 0.12
    assert row["correct digits"] == "1.000 (1.000-1.000)"


def test_questions_set_the_parents_of_twins(evaluation):
    seen: list[Columns] = []

    def model(columns: Columns) -> Equation:
        seen.append(columns)
        return Fading(1.0)

    question = evaluation.questions[0]
    question.edits(model)
    assert seen[0]["Thickness"].equal(parents(question.digits)["Thickness"])
    assert (seen[1]["Thickness"] == 3.5).all()
    assert seen[1]["Intensity"].equal(torch.from_numpy(question.target["Intensity"]))


@pytest.mark.slow
def test_quick_table_resumes_and_lies_between_copy_and_truth(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = morpho_mnist.main(quick=True)
    by = {(row["intervention"], row["images"]): row for row in rows}
    value = {key: float(str(row.get("truth", "nan")).split()[0]) for key, row in by.items()}
    for name in ("do(thickness)", "do(intensity)", "do(digit)"):
        assert value[name, "copy"] == 1
        assert value[name, "true twins"] == 0
        assert value[name, RADIT] > 0
    null = by["null", RADIT]
    assert all(str(null[f"L1, {k}"]).startswith("0.000 ") for k in (1, 2))
    learned, copy = (
        float(str(by["do(thickness)", f"no image, {whose}"]["intensity"]).split()[0])
        for whose in ("learned equation", "copy")
    )
    assert learned < copy / 4
    assert Path("runs/morpho_mnist-quick.png").exists()
    again, _ = make_table([RADIT], QUICK, Path("runs/morpho-quick"))
    assert again == rows
