"""What users bring to an audit: outputs in any container, scores as text, columns for groups."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from audit_worlds import GRAPH, people

from causalcxr import Cohort, do
from causalcxr.audit import as_classifier, audit_pairs
from causalcxr.audit.classifiers import ScoreTable
from causalcxr.audit.group_levels import levels_of
from causalcxr.audit.groups import find_groups
from causalcxr.audit.pairs import Pairs
from causalcxr.common.errors import AuditError, CausalCXRError, ClassifierError

COHORT = Cohort(
    pd.DataFrame(index=["a", "b", "c"]),
    np.array([0.25, 0.5, 0.75], dtype=np.float32)[:, None, None, None] * np.ones((3, 1, 2, 2)),
)
WANTED = [0.25, 0.5, 0.75]


class Net(torch.nn.Module):
    """Return the mean of each image in a container, with weights of one precision."""

    def __init__(self, held, dtype=torch.float32) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones((), dtype=dtype))
        self.held = held

    def forward(self, x: torch.Tensor):
        return self.held(x.mean((1, 2, 3)) * self.scale)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_given_a_network_in_any_precision_then_its_scores_are_read(dtype):
    assert as_classifier(Net(lambda y: y, dtype)).scores(COHORT).tolist() == WANTED


def test_given_a_quantised_network_then_images_stay_fractions():
    net = Net(lambda y: y)
    net.register_parameter(
        "first", torch.nn.Parameter(torch.ones(2, dtype=torch.int8), requires_grad=False)
    )
    net._parameters = dict(reversed(net._parameters.items()))
    assert as_classifier(net).scores(COHORT).tolist() == WANTED


@pytest.mark.parametrize(
    "held",
    [
        lambda y: (y,),
        lambda y: [y],
        lambda y: (y, None),
        lambda y: {"out": y},
        lambda y: {"loss": None, "probabilities": y, "hidden": torch.ones(3, 8)},
        lambda y: y[:, None],
    ],
    ids=["tuple", "list", "tuple with none", "dict", "dict with a name", "column"],
)
def test_given_outputs_in_a_container_with_one_that_is_meant_then_they_are_read(held):
    assert as_classifier(Net(held)).scores(COHORT).tolist() == WANTED


def test_given_a_mapping_with_logits_then_they_are_read_as_logits_and_never_as_probabilities():
    net = Net(lambda y: {"logits": torch.logit(y), "hidden": torch.ones(3, 8)})
    assert as_classifier(net, outputs="logit").scores(COHORT) == pytest.approx(WANTED)
    with pytest.raises(ClassifierError, match=r"'logits', 'hidden'.*say outputs='logit'"):
        as_classifier(net).scores(COHORT)
    with pytest.raises(ClassifierError, match="say outputs='logit'"):
        as_classifier(Net(lambda y: {"logits": y})).scores(COHORT)


@pytest.mark.parametrize(
    ("held", "told"),
    [
        (lambda y: (y, y), "it returns 2 arrays; return one"),
        (lambda y: [y, y, y], "it returns 3 arrays; return one"),
        (lambda y: {"one": y, "two": y}, "a mapping of 'one', 'two'"),
        (lambda y: {}, "a mapping of no array"),
        (lambda y: None, "scores are no numbers but NoneType"),
        (lambda y: SimpleNamespace(out=y), "scores are no numbers but SimpleNamespace"),
        (lambda y: y.mean(), r"scores have shape \(\) for 3 images; return one an image"),
        (lambda y: y[:2], r"scores have shape \(2,\) for 3 images; return one an image"),
        (lambda y: ["0,3", "0.4", "0.5"], "the score at position 0 is the text '0,3'"),
    ],
)
def test_given_outputs_that_are_not_one_score_an_image_then_one_line_says_so(held, told):
    with pytest.raises(ClassifierError, match=told) as caught:
        as_classifier(Net(held)).scores(COHORT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scores", [["0,3", "0,4", "0,5"], ["0.3", "0.4", "0.5"], [0.3, "x", 1]])
def test_given_scores_as_text_then_the_record_is_named(scores):
    with pytest.raises(ClassifierError, match=r"of record '[ab]' is text \([13] of 3\)"):
        ScoreTable(pd.Series(scores, index=["a", "b", "c"]))


def test_given_a_file_with_decimal_commas_then_the_record_is_named(tmp_path):
    (tmp_path / "s.csv").write_text('record,score\na,"0,3"\nb,0.4\n')
    with pytest.raises(ClassifierError, match=r"record 'a': score '0,3' is not a number"):
        as_classifier(tmp_path / "s.csv")


def test_given_options_that_a_kind_does_not_take_then_they_are_named(tmp_path):
    with pytest.raises(ClassifierError, match=r"a .csv of scores takes no outputs="):
        as_classifier(tmp_path / "s.csv", outputs="logit")
    with pytest.raises(ClassifierError, match="a function of images takes no features="):
        as_classifier(lambda x: x, features=["Age"])
    ready = as_classifier(lambda x: x.mean((1, 2, 3)), name="ready")
    with pytest.raises(ClassifierError, match="a classifier that is ready takes no batch="):
        as_classifier(ready, batch=2)


# Columns of groups


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([f"note {k}" for k in range(200)], "200 different values, and groups are of at most 50"),
        (pd.date_range("2020-01-01", periods=200), r"200 different dates.*\['X'\].dt.year"),
        (pd.period_range("2000-01", periods=200, freq="M"), r"200 different dates"),
        ([1, "1"] * 100, "two levels that read '1', of different types"),
        (list(range(200)), "200 different numbers"),
    ],
    ids=["text", "dates", "periods", "types", "numbers"],
)
def test_given_a_column_that_makes_no_groups_then_one_line_says_so(values, told):
    with pytest.raises(CausalCXRError, match=told) as caught:
        find_groups(pd.DataFrame({"X": values}), "X")
    assert "\n" not in str(caught.value)


def test_given_fifty_hospitals_then_each_is_a_group():
    table = pd.DataFrame({"Hospital": [f"h{k}" for k in range(50)] * 2})
    assert len(find_groups(table, "Hospital").masks) == 51


def test_given_too_many_combinations_then_they_are_counted():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({c: rng.integers(0, 12, 5000) for c in "ABC"})
    with pytest.raises(CausalCXRError, match="more than 1,000 groups by A, B, C; give fewer"):
        find_groups(table, list("ABC"))
    assert len(find_groups(table, list("ABC"), depth=1).masks) == 37


def test_given_a_level_called_all_then_it_is_a_group_of_its_own():
    table = pd.DataFrame({"Sex": ["all", "F", "all"]})
    assert find_groups(table, "Sex").table["n"].to_dict() == {"all": 3, "Sex=F": 1, "Sex=all": 2}


@pytest.mark.parametrize(
    "table",
    [
        {"A": ["x=1", "y"], "A=x": ["1", "2"]},
        {"A": ["x & B=y", "x"], "B": ["z", "y"]},
    ],
    ids=["two columns", "a level with an ampersand"],
)
def test_given_two_groups_of_one_name_then_it_is_named(table):
    with pytest.raises(CausalCXRError, match="two groups are called 'A=x"):
        find_groups(pd.DataFrame(table), list(table))


@pytest.mark.parametrize("name", ["n", "columns", "positives", "few"])
def test_given_a_column_called_as_one_of_the_result_then_it_is_refused(name):
    with pytest.raises(CausalCXRError, match=f"a column called '{name}' is part of the result"):
        find_groups(pd.DataFrame({name: ["x", "y"]}), name)


@pytest.mark.parametrize("name", ["label", "factual", "patient", "why"])
def test_given_a_column_called_as_one_of_the_audit_then_it_is_refused(name):
    cohort = people(20)
    table = cohort.table.assign(**{name: "x"})
    cohort = Cohort(table, cohort.images)
    pairs = Pairs.from_cohorts(GRAPH, cohort, cohort, do(sex="M"))
    with pytest.raises(AuditError, match=f"groups by '{name}': the table of an audit has"):
        audit_pairs(lambda x: x.mean((1, 2, 3)), pairs, by=name, bootstrap=20)


def test_given_missing_values_then_they_are_a_level_and_do_not_count_as_a_type():
    assert list(levels_of(pd.Series(["a", None, np.nan, "b"]))) == ["a", "unknown", "unknown", "b"]
