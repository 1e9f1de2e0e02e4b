"""Inputs of an audit: outputs in containers, scores as text, columns of groups."""

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
def test_scores_of_any_precision_are_read(dtype):
    assert as_classifier(Net(lambda y: y, dtype)).scores(COHORT).tolist() == WANTED


def test_quantised_network_gets_fractions():
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
def test_outputs_in_containers_are_read(held):
    assert as_classifier(Net(held)).scores(COHORT).tolist() == WANTED


def test_logits_in_a_mapping_are_not_probabilities():
    net = Net(lambda y: {"logits": torch.logit(y), "hidden": torch.ones(3, 8)})
    assert as_classifier(net, outputs="logit").scores(COHORT) == pytest.approx(WANTED)
    with pytest.raises(ClassifierError, match=r"'logits', 'hidden'.*give outputs='logit'"):
        as_classifier(net).scores(COHORT)
    with pytest.raises(ClassifierError, match="give outputs='logit'"):
        as_classifier(Net(lambda y: {"logits": y})).scores(COHORT)


@pytest.mark.parametrize(
    ("held", "told"),
    [
        (lambda y: (y, y), "it returns 2 arrays; return one"),
        (lambda y: [y, y, y], "it returns 3 arrays; return one"),
        (lambda y: {"one": y, "two": y}, "a mapping of 'one', 'two'"),
        (lambda y: {}, "a mapping of no array"),
        (lambda y: None, "scores are not numbers but NoneType"),
        (lambda y: SimpleNamespace(out=y), "scores are not numbers but SimpleNamespace"),
        (lambda y: y.mean(), r"scores have shape \(\) for 3 images; return one per image"),
        (lambda y: y[:2], r"scores have shape \(2,\) for 3 images; return one per image"),
        (lambda y: ["0,3", "0.4", "0.5"], "the score at position 0 is the text '0,3'"),
    ],
)
def test_outputs_other_than_one_score_per_image_are_refused(held, told):
    with pytest.raises(ClassifierError, match=told) as caught:
        as_classifier(Net(held)).scores(COHORT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scores", [["0,3", "0,4", "0,5"], ["0.3", "0.4", "0.5"], [0.3, "x", 1]])
def test_scores_as_text_are_refused(scores):
    with pytest.raises(ClassifierError, match=r"of record '[ab]' is text \([13] of 3\)"):
        ScoreTable(pd.Series(scores, index=["a", "b", "c"]))


def test_decimal_commas_are_refused(tmp_path):
    (tmp_path / "s.csv").write_text('record,score\na,"0,3"\nb,0.4\n')
    with pytest.raises(ClassifierError, match=r"record 'a': score '0,3' is not a number"):
        as_classifier(tmp_path / "s.csv")


def test_options_of_another_kind_are_refused(tmp_path):
    with pytest.raises(ClassifierError, match=r"a .csv of scores does not accept outputs="):
        as_classifier(tmp_path / "s.csv", outputs="logit")
    with pytest.raises(ClassifierError, match="a function of images does not accept features="):
        as_classifier(lambda x: x, features=["Age"])
    ready = as_classifier(lambda x: x.mean((1, 2, 3)), name="ready")
    with pytest.raises(ClassifierError, match="a Classifier does not accept batch="):
        as_classifier(ready, batch=2)


# Columns of groups


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([f"note {k}" for k in range(200)], "200 different values, more than 50"),
        (pd.date_range("2020-01-01", periods=200), r"200 different dates.*\['X'\].dt.year"),
        (pd.period_range("2000-01", periods=200, freq="M"), r"200 different dates"),
        ([1, "1"] * 100, "two levels '1' of different types"),
        (list(range(200)), "200 different numbers"),
    ],
    ids=["text", "dates", "periods", "types", "numbers"],
)
def test_columns_unfit_for_groups_are_refused(values, told):
    with pytest.raises(CausalCXRError, match=told) as caught:
        find_groups(pd.DataFrame({"X": values}), "X")
    assert "\n" not in str(caught.value)


def test_fifty_levels_give_fifty_groups():
    table = pd.DataFrame({"Hospital": [f"h{k}" for k in range(50)] * 2})
    assert len(find_groups(table, "Hospital").masks) == 51


def test_too_many_groups_are_refused():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({c: rng.integers(0, 12, 5000) for c in "ABC"})
    with pytest.raises(CausalCXRError, match="more than 1,000 groups by A, B, C; give fewer"):
        find_groups(table, list("ABC"))
    assert len(find_groups(table, list("ABC"), depth=1).masks) == 37


def test_level_named_all_is_a_separate_group():
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
def test_groups_of_the_same_name_are_refused(table):
    with pytest.raises(CausalCXRError, match="two groups are called 'A=x"):
        find_groups(pd.DataFrame(table), list(table))


@pytest.mark.parametrize("name", ["n", "columns", "positives", "few"])
def test_reserved_column_of_groups_is_refused(name):
    with pytest.raises(
        CausalCXRError, match=f"the column name '{name}' is reserved for the result"
    ):
        find_groups(pd.DataFrame({name: ["x", "y"]}), name)


@pytest.mark.parametrize("name", ["label", "factual", "patient", "why"])
def test_reserved_column_of_the_audit_is_refused(name):
    cohort = people(20)
    table = cohort.table.assign(**{name: "x"})
    cohort = Cohort(table, cohort.images)
    pairs = Pairs.from_cohorts(GRAPH, cohort, cohort, do(sex="M"))
    with pytest.raises(
        AuditError, match=f"groups by '{name}': the name is reserved for the result"
    ):
        audit_pairs(lambda x: x.mean((1, 2, 3)), pairs, by=name, bootstrap=20)


def test_missing_values_are_the_level_unknown():
    assert list(levels_of(pd.Series(["a", None, np.nan, "b"]))) == ["a", "unknown", "unknown", "b"]
