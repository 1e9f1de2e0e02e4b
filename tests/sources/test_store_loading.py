"""Batches for torch: every record once, the same order anywhere, taken up again in the middle."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causalcxr import Cohort, Graph
from causalcxr.common.errors import CohortError
from causalcxr.sources.store.loading import Batches, CohortDataset, Order
from causalcxr.sources.store.writing import write

GOLDEN = [
    [18, 14, 10, 8],
    [19, 4, 5, 13],
    [1, 11, 6, 7],
    [15, 2, 9, 0],
    [12, 17, 3, 16],
]  # of 20 records in batches of 4, seed 7
GRAPH = Graph.parse("variables: {Age: {type: continuous}, Sex: {type: binary, levels: [F, M]}}")


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    images = np.random.default_rng(0).integers(0, 65536, (23, 8, 8), dtype=np.uint16)
    table = pd.DataFrame({"Age": np.arange(23.0), "Sex": ["F", "M"] * 11 + [None]})
    return Cohort(table, images)


@pytest.fixture(scope="module")
def stored(cohort, tmp_path_factory) -> Cohort:
    pytest.importorskip("pyarrow")
    folder = write(cohort, tmp_path_factory.mktemp("loading") / "store", shard=0.001)
    return Cohort.load(folder)


def rows_of(batches) -> list[list[int]]:
    return [batch["row"].tolist() for batch in batches]


@given(
    n=st.integers(1, 60),
    batch=st.integers(1, 7),
    ranks=st.integers(1, 5),
    seed=st.integers(0, 3),
    shuffle=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_each_record_is_read_once_by_all_ranks(n, batch, ranks, seed, shuffle):
    options = {"ranks": ranks, "seed": seed, "shuffle": shuffle}
    orders = [Order(n, batch, rank=k, whole=False, **options) for k in range(ranks)]
    given_rows = [list(order) for order in orders]
    assert [len(order) for order in orders] == [len(rows) for rows in given_rows]
    assert sorted(row for rows in given_rows for part in rows for row in part) == list(range(n))
    if n >= batch * ranks:
        whole = [list(Order(n, batch, rank=k, **options)) for k in range(ranks)]
        assert {len(rows) for rows in whole} == {n // (batch * ranks)}
        assert {len(part) for rows in whole for part in rows} == {batch}
        together = [row for rows in whole for part in rows for row in part]
        assert len(set(together)) == len(together)


@given(
    n=st.integers(12, 60), first=st.integers(1, 4), then=st.integers(1, 4), steps=st.integers(0, 3)
)
@settings(max_examples=30, deadline=None)
def test_run_resumes_with_another_number_of_ranks(n, first, then, steps):
    before = [Order(n, 1, rank=k, ranks=first, seed=4, whole=False) for k in range(first)]
    seen = [row for order in before for part in list(order)[:steps] for row in part]
    after = [Order(n, 2, rank=k, ranks=then, seed=4, whole=False) for k in range(then)]
    for order in after:
        order.done = min(n, steps * first)
    seen += [row for order in after for part in order for row in part]
    assert sorted(seen) == list(range(n))


def test_orders_depend_on_seed_and_epoch():
    orders = {}
    for seed in range(3):
        for epoch in range(3):
            order = Order(50, 5, seed=seed)
            order.epoch = epoch
            rows = tuple(map(tuple, order))
            orders[seed, epoch] = rows
            assert rows == tuple(map(tuple, order))
    assert len(set(orders.values())) == 9
    assert list(Order(6, 2, shuffle=False)) == [[0, 1], [2, 3], [4, 5]]


def test_order_is_the_same_on_any_machine():
    assert list(Order(20, 4, seed=7)) == GOLDEN


def test_batches_hold_images_and_variables(stored, cohort):
    columns = cohort.columns(GRAPH)
    batches = Batches(stored, 5, graph=GRAPH, seed=1)
    for batch in batches:
        rows = batch["row"].numpy()
        assert batch["image"].dtype == torch.float32
        assert (batch["image"].numpy() == cohort.images[rows]).all()
        for name, column in columns.items():
            assert np.array_equal(batch[name].numpy(), column[rows], equal_nan=True)
    assert len(rows_of(batches)) == 4


def test_readers_change_neither_batches_nor_torch_seed(stored):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    with_readers = Batches(stored, 4, readers=2, seed=1)
    found = [rows_of(with_readers) for _ in range(2)]
    assert torch.rand(1) == expected
    alone = Batches(stored, 4, seed=1)
    assert found == [rows_of(alone) for _ in range(2)]
    assert found[0] != found[1]


@pytest.mark.slow
def test_readers_work_at_an_address(stored):
    folder = str(Path(stored.origin).parent)
    distant = Cohort.load(f"file://{folder}")
    assert distant.images.remote
    assert not stored.images.remote
    found = Batches(distant, 6, readers=1, seed=5)
    expected = list(Batches(stored, 6, seed=5))
    for one, two in zip(found, expected, strict=True):
        assert torch.equal(one["image"], two["image"])
        assert torch.equal(one["row"], two["row"])


@pytest.mark.parametrize("readers", [0, 2])
def test_interrupted_run_resumes_at_the_next_batch(stored, readers):
    expected = Batches(stored, 3, seed=2)
    whole = [rows_of(expected) for _ in range(2)]
    first = Batches(stored, 3, seed=2, readers=readers)
    seen = []
    for batch in first:
        seen.append(batch["row"].tolist())
        if len(seen) == 4:
            break
    state = json.loads(json.dumps(first.state_dict()))
    assert state == {"n": 23, "seed": 2, "epoch": 0, "done": 12}
    second = Batches(stored, 3, seed=2, readers=readers)
    second.load_state_dict(state)
    assert len(second) == 3
    seen += rows_of(second)
    assert seen == whole[0]
    assert rows_of(second) == whole[1]


def test_invalid_arguments_are_refused(stored, cohort):
    with pytest.raises(CohortError, match="not every record has an image"):
        CohortDataset(cohort.with_images(None))
    with pytest.raises(CohortError, match="rank 2 of 2"):
        Order(9, 1, rank=2, ranks=2)
    with pytest.raises(CohortError, match="9 records do not fill a batch of 5 on 2 ranks"):
        Order(9, 5, ranks=2)
    with pytest.raises(CohortError, match="batches: seed is 1, that of the run to resume is 2"):
        Batches(stored, 2, seed=1).load_state_dict(Batches(stored, 2, seed=2).state_dict())
