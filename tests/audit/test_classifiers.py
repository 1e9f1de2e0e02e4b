"""Classifiers in: what each kind returns, and what is refused by name."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from causalcxr import Cohort
from causalcxr.audit.classifiers import (
    FeatureClassifier,
    ImageClassifier,
    ScoreTable,
    XRVClassifier,
    as_classifier,
    checked_scores,
)
from causalcxr.common.errors import ClassifierError

GREYS = np.linspace(0, 1, 5, dtype=np.float32)
COHORT = Cohort(
    pd.DataFrame({"Age": [30, 40, 50, 60, 70]}, index=list("abcde")),
    np.broadcast_to(GREYS[:, None, None, None], (5, 1, 4, 4)).copy(),
)


def test_function_of_batches_scores_each_record():
    seen = []

    def mean(x):
        seen.append(x.shape)
        return x.mean((1, 2, 3))

    found = as_classifier(mean, batch=2).scores(COHORT)
    assert np.allclose(found, GREYS)
    assert seen == [(2, 1, 4, 4), (2, 1, 4, 4), (1, 1, 4, 4)]


def test_torch_module_runs_in_evaluation_mode():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(2))

        def forward(self, x):
            assert not self.training
            assert not torch.is_grad_enabled()
            return x.mean((1, 2, 3))[:, None] * torch.tensor([-1.0, 1.0]) + self.bias

    net = Net().train()
    found = as_classifier(net, outputs="logit", column=1).scores(COHORT)
    assert np.allclose(found, 1 / (1 + np.exp(-GREYS)))
    assert net.training


def test_estimator_scores_the_positive_class():
    x = COHORT.table[["Age"]]
    estimator = LogisticRegression().fit(x, [0, 0, 0, 1, 1])
    last = as_classifier(estimator, features=["Age"]).scores(COHORT)
    first = FeatureClassifier(estimator, ["Age"], positive=0).scores(COHORT)
    assert np.allclose(last, estimator.predict_proba(x)[:, 1])
    assert np.allclose(first + last, 1)
    of_images = as_classifier(
        LogisticRegression().fit(GREYS[:, None], [0, 0, 1, 1, 1]),
        features=lambda cohort: cohort.images[:].mean((1, 2, 3))[:, None],
    )
    assert of_images.reads_images
    assert (np.diff(of_images.scores(COHORT)) > 0).all()


def test_xrv_images_have_its_range_and_size():
    class Model(torch.nn.Module):
        pathologies = ("Atelectasis", "", "Effusion")

        def forward(self, x):
            assert x.shape[1:] == (1, 224, 224)
            level = x.mean((1, 2, 3)) / 1024
            return torch.stack([torch.zeros_like(level), level * torch.nan, (level + 1) / 2], 1)

    found = XRVClassifier(Model(), "Pleural Effusion").scores(COHORT)
    assert np.allclose(found, GREYS, atol=1e-4)
    with pytest.raises(ClassifierError, match=r"no output 'Edema'.*Atelectasis, Effusion"):
        as_classifier(Model(), target="Edema")


def test_score_table_matches_records_of_any_type(tmp_path):
    rows = [(f"{k}", w, k / 10) for k in range(4) for w in ("factual", "twin")]
    pd.DataFrame(rows, columns=["record", "world", "score"]).to_csv(
        tmp_path / "s.csv", index=False
    )
    cohort = Cohort(pd.DataFrame(index=[3, 1]))
    scorer = as_classifier(tmp_path / "s.csv", target="Edema")
    assert scorer.in_world("twin").scores(cohort).tolist() == [0.3, 0.1]
    assert scorer.in_world("null") is None
    with pytest.raises(
        ClassifierError, match=r"s.csv: factual scores: no value for record '7' \(1 of 1"
    ):
        scorer.scores(Cohort(pd.DataFrame(index=[7])))


def test_score_table_without_twins_is_refused():
    with pytest.raises(ClassifierError, match="there are no scores of world 'twin'"):
        as_classifier(pd.Series([0.1], index=["a"])).in_world("twin")


def test_record_ids_of_a_score_table_are_texts_and_na_is_one(tmp_path):
    file = tmp_path / "s.csv"
    file.write_text("record,world,score\nNA,twin,0.25\nnan,twin,0.75\n1e5,twin,NA\n")
    table = ScoreTable.read(file).in_world("twin").worlds["twin"]
    assert table.index.tolist() == ["NA", "nan", "1e5"]
    np.testing.assert_array_equal(table.to_numpy(), [0.25, 0.75, np.nan])
    file.write_text("record,draw,score\na,0,0.1\na,1,0.2\n")
    cohort = Cohort(pd.DataFrame(index=["a"])).repeat(2)
    assert ScoreTable.read(file).scores(cohort).tolist() == [0.1, 0.2]
    file.write_text('record,score\na,"0,3"\n')
    with pytest.raises(ClassifierError, match=r"record 'a': score '0,3' is not a number \(1 rows"):
        ScoreTable.read(file)


def test_score_table_has_a_score_per_draw():
    index = pd.MultiIndex.from_product([["a", "b"], [0, 1]], names=["record", "draw"])
    scores = pd.Series([0.1, 0.2, 0.3, 0.4], index)
    cohort = Cohort(pd.DataFrame(index=["a", "b"])).repeat(2)
    assert ScoreTable(scores).scores(cohort).tolist() == [0.1, 0.2, 0.3, 0.4]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([-3.0, 4.0], "scores range from -3 to 4.*outputs='logit'"),
        ([0.1, float("nan")], "the score at position 1 is nan"),
        ([0.1, float("inf")], "the score at position 1 is inf"),
        ([0.1], r"shape \(1,\) for 2 records"),
        ([[0.1, 0.2], [0.3, 0.4]], r"shape \(2, 2\) for 2 records; .* column="),
        (["a", "b"], "the score at position 0 is the text 'a'; return numbers"),
    ],
)
def test_scores_outside_0_and_1_are_refused(scores, message):
    with pytest.raises(ClassifierError, match=message):
        checked_scores(scores, 2, "net")


def test_unusable_classifiers_are_refused(tmp_path):
    x = COHORT.table[["Age"]]
    with pytest.raises(ClassifierError, match="give features="):
        as_classifier(LogisticRegression().fit(x, [0, 0, 0, 1, 1]))
    with pytest.raises(ClassifierError, match="is not fitted"):
        as_classifier(LogisticRegression(), features=["Age"])
    with pytest.raises(ClassifierError, match="no predict_proba; calibrate"):
        as_classifier(RidgeClassifier().fit(x, [0, 0, 0, 1, 1]), features=["Age"])
    misspelt = as_classifier(LogisticRegression().fit(x, [0, 0, 0, 1, 1]), features=["Agee"])
    with pytest.raises(ClassifierError, match="no column 'Agee'; did you mean 'Age'"):
        misspelt.scores(COHORT)
    with pytest.raises(ClassifierError, match="reads images, but the cohort has none"):
        as_classifier(lambda x: x).scores(COHORT.with_images(None))
    with pytest.raises(ClassifierError, match="int is not a classifier"):
        as_classifier(3)
    with pytest.raises(ClassifierError, match="outputs is 'odds'"):
        as_classifier(lambda x: x, outputs="odds")
    (tmp_path / "s.csv").write_text("record,p\na,1\n", encoding="utf-8")
    with pytest.raises(ClassifierError, match=r"s.csv: there is no column 'score'"):
        as_classifier(tmp_path / "s.csv")
    twice = pd.Series([0.1, 0.2], index=["a", "a"])
    with pytest.raises(ClassifierError, match="record 'a' has two scores"):
        as_classifier(twice)


# Threads


class Wide(torch.nn.Module):
    """A network whose sums depend on how many threads share them, and that can refuse copies."""

    def __init__(self, copied=True):
        super().__init__()
        torch.manual_seed(0)
        conv, norm = torch.nn.Conv2d(1, 64, 7, 2, 3), torch.nn.BatchNorm2d(128)
        self.body = torch.nn.Sequential(conv, torch.nn.Conv2d(64, 128, 3, padding=1), norm)
        self.head = torch.nn.Sequential(torch.nn.Linear(128, 1024), torch.nn.Linear(1024, 1))
        self.copied = copied

    def __deepcopy__(self, memo):
        if not self.copied:
            raise TypeError("no copies")
        found = Wide()
        found.body, found.head = self.body, self.head
        return found.train(self.training)

    def forward(self, x):
        assert not self.training
        return self.head(self.body(x).mean((2, 3))).sigmoid()[:, 0]


@pytest.mark.parametrize("copied", [True, False])
def test_scores_do_not_depend_on_threads(copied):
    images = np.random.default_rng(0).random((90, 1, 32, 32)).astype(np.float32)
    cohort = Cohort(pd.DataFrame({"A": range(90)}), images)
    network, before = Wide(copied), torch.get_num_threads()
    classifier = ImageClassifier(network, batch=20)
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(classifier.scores(cohort))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert np.ptp(found[0]) > 0
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()
    assert network.training  # as it was
