"""The plan of a reader study: matched, balanced, without a trace of the truth, whole or not."""

import json
import stat

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from reader_studies import paper_plan, pool, small_study

from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.study import app
from causalcxr.apps.study.creation import make_study, reader_names
from causalcxr.apps.study.plan import StudyPlan
from causalcxr.cohort import Cohort
from causalcxr.common.errors import CohortError, StudyError


def chunks(content: bytes) -> list[bytes]:
    found, at = [], 8
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        found.append(content[at + 4 : at + 8])
        at += 12 + length
    return found


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "pairs"
    return folder, small_study(folder, trials=20, readers=["Ada", "Ben"], seed=3)


def test_pairs_are_real_and_synthetic_of_one_view(pairs):
    _, plan = pairs
    views = {**pool(60, 1).table["View"], **pool(60, 2).table["View"]}
    assert len(plan.trials) == 20
    for trial in plan.trials:
        assert sorted(trial.real) == [False, True]
        real = trial.real.index(True)
        assert trial.records[real].startswith("1-")
        assert trial.records[1 - real].startswith("2-")
        assert {views[record] for record in trial.records} == {trial.strata["View"]}
    counts = pd.Series([trial.strata["View"] for trial in plan.trials]).value_counts()
    assert sorted(counts) == [6, 7, 7]
    records = [record for trial in plan.trials for record in trial.records]
    assert len(set(records)) == 40


def test_sides_are_balanced_and_presentations_apart(pairs):
    _, plan = pairs
    assert plan.steps == 40
    for reader in plan.readers:
        shown = [plan.shown(reader, step) for step in range(plan.steps)]
        for p in (0, 1):
            asked = [s for s in shown if s.presentation == p]
            assert sorted(s.trial for s in asked) == list(range(20))
            assert sum(plan.correct(s, 0) for s in asked) == 10
            assert all(plan.correct(s, 0) != plan.correct(s, 1) for s in asked)
        first, second = reader.orders
        gaps = [20 + second.index(trial) - first.index(trial) for trial in range(20)]
        assert min(gaps) > 10
        assert first != second
    assert plan.readers[0].orders[0] != plan.readers[1].orders[0]


def test_images_hold_the_pixels_without_metadata(pairs):
    folder, plan = pairs
    pools = {True: pool(60, 1), False: pool(60, 2)}
    sizes, truths = [], []
    for trial in plan.trials:
        for name, real, record in zip(trial.images, trial.real, trial.records, strict=True):
            file = folder / "images" / f"{name}.png"
            assert set(chunks(file.read_bytes())) == {b"IHDR", b"IDAT", b"IEND"}
            with Image.open(file) as image:
                assert image.mode == "L"
                assert not image.info
                pixels = np.asarray(image)
            expected = pools[real].images[pools[real].index.get_indexer([record])][0, 0]
            assert np.array_equal(pixels, np.rint(expected * 255))
            sizes.append(pixels.shape)
            truths.append((name, real))
    assert set(sizes) == {(16, 16)}
    assert len(list((folder / "images").iterdir())) == 40
    # Neither the order of names nor that of times tells: real ones are scattered among both.
    ranks = [k for k, (_, real) in enumerate(sorted(truths)) if real]
    assert 8 < np.mean(ranks) < 31


def test_seed_repeats_the_design_not_the_names(tmp_path):
    first, second, other = (
        small_study(tmp_path / name, seed=seed) for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    design = [[(t.records, t.real) for t in plan.trials] for plan in (first, second, other)]
    assert design[0] == design[1] != design[2]
    assert first.readers[0].orders == second.readers[0].orders != other.readers[0].orders
    tokens = [reader.token for plan in (first, second) for reader in plan.readers]
    assert len(set(tokens)) == 6
    assert min(map(len, tokens)) >= 24
    assert not set(first.hashes) & set(second.hashes)


def test_half_of_single_images_are_real_in_each_view(tmp_path):
    plan = small_study(tmp_path / "s", trials=24, kind="single", presentations=1, readers=1)
    table = pd.DataFrame(
        {"view": t.strata["View"], "real": t.real[0], "record": t.records[0]} for t in plan.trials
    )
    assert table.groupby("view")["real"].agg(["sum", "count"]).to_numpy().tolist() == [[4, 8]] * 3
    assert (table["record"].str.startswith("1-") == table["real"]).all()
    shown = plan.shown(plan.readers[0], 0)
    assert plan.correct(shown, 0) == plan.trials[shown.trial].real[0]
    assert not any(map(any, plan.readers[0].swapped))


def test_one_image_per_patient_is_shown(tmp_path):
    table = pd.DataFrame({"View": ["PA"] * 40}, index=[f"r{k}" for k in range(40)])
    pixels = np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8)
    real = Cohort(table, pixels, patients=[str(k // 4) for k in range(40)])
    plan = make_study(real, pool(40, 2, views=["PA"]), tmp_path / "s", trials=10)
    records = [r for t in plan.trials for r in t.records if r.startswith("r")]
    assert sorted(int(r[1:]) // 4 for r in records) == list(range(10))
    with pytest.raises(StudyError, match="10 of each can be matched by View, one per patient"):
        make_study(real, pool(40, 2, views=["PA"]), tmp_path / "t", trials=11)


def constant(cohort):
    pixels = np.array(cohort.images[:])
    pixels[:] = 0.5
    return cohort.with_images(cohort.images.with_pixels(pixels))


def overlapping():
    real, other = pool(30, 1), pool(30, 2)
    pixels = np.array(other.images[:])
    pixels[::3] = np.array(real.images[:])[::3]
    return real, other.with_images(other.images.with_pixels(pixels))


def doubled(cohort):
    pixels = np.array(cohort.images[:])
    pixels[:] = pixels[:1]
    return cohort.with_images(cohort.images.with_pixels(pixels))


def without_view(cohort):
    return Cohort(cohort.table.drop(columns="View"), np.array(cohort.images[:]))


REFUSED = {
    "too few": (lambda: (pool(6, 1), pool(30, 2)), {}, "10 real and 10 synthetic images are ne"),
    "a view alone": (
        lambda: (pool(30, 1), pool(30, 2, views=["AP", "PA"])),
        {},
        "real pool: 10 images have View=LATERAL, but no synthetic image has",
    ),
    "no view": (lambda: (without_view(pool(30, 1)), pool(30, 2)), {}, "no column 'View'"),
    "overlap": (overlapping, {}, "the pools overlap: record '1-00.*same pixels"),
    "same pool": (lambda: (pool(30, 1), pool(30, 1)), {}, "the pools overlap"),
    "double": (lambda: (pool(30, 1), doubled(pool(30, 2))), {}, "synthetic pool: records .* same"),
    "constant": (lambda: (pool(30, 1), constant(pool(30, 2))), {}, "synthetic pool: .* constant"),
    "no images": (lambda: (pool(30, 1).with_images(None), pool(30, 2)), {}, "has no images"),
    "sizes": (lambda: (pool(30, 1), pool(30, 2, (32, 32))), {}, "16x16 .real. and 32x32 .synth"),
    "enlarged": (
        lambda: (pool(30, 1), pool(30, 2, (32, 32))),
        {"size": 20},
        "can only be reduced",
    ),
    "distorted": (
        lambda: (pool(30, 1, (32, 32)), pool(30, 2, (32, 24))),
        {"size": 16},
        "differ in their proportions",
    ),
    "kind": (lambda: (pool(30, 1), pool(30, 2)), {"kind": "2acf"}, "did you mean '2afc'"),
    "odd": (lambda: (pool(30, 1), pool(30, 2)), {"kind": "single", "trials": 9}, "an even number"),
    "trials": (lambda: (pool(30, 1), pool(30, 2)), {"trials": 0}, "trials 0: give 1 to 2,000"),
    "readers": (lambda: (pool(30, 1), pool(30, 2)), {"readers": ["A", "A"]}, "named twice"),
    "formula": (lambda: (pool(30, 1), pool(30, 2)), {"readers": ["=1+1"]}, "do not start with"),
    "control": (lambda: (pool(30, 1), pool(30, 2)), {"title": "a\nb"}, "printable characters"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unfair_pools_are_refused(case, tmp_path):
    pools, asked, message = REFUSED[case]
    with pytest.raises(StudyError, match=message) as caught:
        make_study(*pools(), tmp_path / "s", **{"trials": 10} | asked)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_left_out_view_leaves_the_others(tmp_path):
    plan = make_study(
        pool(30, 1), pool(30, 2, views=["AP", "PA"]), tmp_path / "s", trials=10, leave_out=True
    )
    assert {t.strata["View"] for t in plan.trials} == {"AP", "PA"}


def test_unmatched_pools_shrink_to_one_size(tmp_path):
    real, other = without_view(pool(30, 1, (32, 24))), pool(30, 2, (64, 48))
    plan = make_study(real, other, tmp_path / "s", trials=10, match=[], size=16)
    assert plan.size == (16, 12)
    assert all(t.strata == {} for t in plan.trials)
    for file in (tmp_path / "s" / "images").iterdir():
        with Image.open(file) as image:
            assert image.size == (12, 16)


def test_records_without_view_are_not_used(tmp_path):
    table = pool(30, 1).table
    table.loc[table.index[:27], "View"] = None
    real = Cohort(table, np.array(pool(30, 1).images[:]))
    with pytest.raises(StudyError, match="3 of each can be matched"):
        make_study(real, pool(30, 2), tmp_path / "s", trials=10)


def test_integers_and_floats_match(tmp_path):
    codes = {"AP": 1, "PA": 2, "LATERAL": 3}
    pools = []
    for seed, dtype in ((1, "Int64"), (2, float)):
        drawn = pool(30, seed)
        table = drawn.table.assign(View=drawn.table["View"].map(codes).astype(dtype))
        pools.append(Cohort(table, np.array(drawn.images[:])))
    plan = make_study(*pools, tmp_path / "s", trials=10)
    assert {trial.strata["View"] for trial in plan.trials} <= {"1", "2", "3"}


def test_plan_loads_and_is_private(pairs):
    folder, plan = pairs
    again = StudyPlan.load(folder)
    assert again.digest == plan.digest
    assert again.trials == plan.trials
    assert again.readers == plan.readers
    assert stat.S_IMODE((folder / "plan.json").stat().st_mode) == 0o600


def test_changed_or_missing_plan_is_refused(tmp_path):
    small_study(tmp_path / "s")
    file = tmp_path / "s" / "plan.json"
    told = json.loads(file.read_text())
    told["trials"][0]["real"].reverse()
    file.write_text(json.dumps(told))
    with pytest.raises(StudyError, match="was changed after it was drawn"):
        StudyPlan.load(tmp_path / "s")
    for text in ("[]", "{", '{"sha256": 1}'):
        file.write_text(text)
        with pytest.raises(StudyError, match="is not a valid plan"):
            StudyPlan.load(tmp_path / "s")
    with pytest.raises(StudyError, match="is not a reader study"):
        StudyPlan.load(tmp_path)


def test_folder_with_other_content_is_unchanged(tmp_path):
    first = small_study(tmp_path / "s")
    assert small_study(tmp_path / "s").digest == first.digest  # complete: nothing to do
    with pytest.raises(StudyError, match="the folder is not empty"):
        small_study(tmp_path / "s", seed=1)
    assert StudyPlan.load(tmp_path / "s").digest == first.digest
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StudyError, match="cannot be written"):
        small_study(tmp_path / "file" / "s")
    assert (tmp_path / "file").read_text() == "mine"


def test_odd_number_of_trials_is_balanced_within_one():
    plan = paper_plan(trials=7)
    for reader in plan.readers:
        for p in (0, 1):
            shown = [plan.shown(reader, 7 * p + k) for k in range(7)]
            assert sum(plan.correct(s, 0) for s in shown) in (3, 4)


def test_reader_names_are_trimmed():
    assert reader_names([" Ada", "<b>Ben</b>"]) == ["Ada", "<b>Ben</b>"]
    assert reader_names(3) == ["Reader 1", "Reader 2", "Reader 3"]


def test_command_creates_a_study_of_phantoms(tmp_path, capsys):
    out = tmp_path / "s"
    pools = ["phantom:n=24,seed=1,size=32", "phantom:n=24,seed=2,size=32"]
    asked = ["--trials", "6", "--kind", "single", "--readers", "Ada, Ben", "--match", "view"]
    asked += ["--match", "Sex", "--leave-out"]
    assert guarded(app, ["new", *pools, "--out", str(out), *asked]) == 0
    assert f"{out}: 6 trials x 2, 2 readers" in capsys.readouterr().out
    plan = StudyPlan.load(out)
    assert [reader.name for reader in plan.readers] == ["Ada", "Ben"]
    assert set(plan.trials[0].strata) == {"view", "Sex"}
    assert plan.about["pools"]["real"]["source"] == "phantom"
    assert guarded(app, ["new", *pools, "--out", str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_unknown_cohort_is_reported(tmp_path, capsys):
    assert guarded(app, ["new", "fantom", "phantom", "--out", str(tmp_path / "s")]) == 2
    assert "did you mean 'phantom'" in capsys.readouterr().err
    assert issubclass(CohortError, StudyError.__mro__[1])
