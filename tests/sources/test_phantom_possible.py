"""Other twins that a phantom's radiograph allows."""

import numpy as np
import pytest
import torch

from causalcxr import do
from causalcxr.cohort import Cohort
from causalcxr.common.errors import CohortError
from causalcxr.common.random_numbers import Draws
from causalcxr.sources.phantom import possible_twins, rendering, truth
from causalcxr.sources.phantom.patient import NUMBERS, OWN_NUMBERS, Patient
from causalcxr.sources.phantom.tables import FINDINGS


@pytest.fixture(scope="module")
def patients() -> Cohort:
    return Cohort.load("phantom", n=16, seed=3, size=32)


def _patients(present: torch.Tensor) -> Patient:
    """Return patients with some of the findings, (n, findings)."""
    n = len(present)
    columns = {name: torch.zeros(n).double() for name in ("Age", "Sex", "Race", "Dataset", "View")}
    columns["Age"] += 50.0
    columns["View"] += 1.0
    columns |= {name: present[:, k].double() for k, name in enumerate(FINDINGS)}
    return Patient(columns, Draws(np.arange(n, dtype=np.uint64), seed=5))


def _redrawn(patients: Patient) -> Patient:
    everyone = torch.ones(len(patients.draws), dtype=torch.bool)
    return patients.redrawn(dict.fromkeys(FINDINGS, everyone), patients.draws.on("another"))


def test_each_finding_has_numbers_and_no_number_belongs_to_two():
    assert set(OWN_NUMBERS) == set(FINDINGS)
    owned = [name for names in OWN_NUMBERS.values() for name in names]
    assert len(owned) == len(set(owned))
    assert set(owned) < set(NUMBERS)


def test_numbers_of_an_absent_finding_change_no_pixel():
    healthy = _patients(torch.zeros(8, len(FINDINGS)))
    assert torch.equal(rendering.render(_redrawn(healthy), 32), rendering.render(healthy, 32))


def test_numbers_of_each_present_finding_change_the_image():
    ill = _patients(torch.eye(len(FINDINGS)).repeat(3, 1))
    change = rendering.render(_redrawn(ill), 32) - rendering.render(ill, 32)
    largest = change.abs().amax((1, 2, 3)).view(3, -1).amax(0)
    assert (largest > 0.01).all(), dict(zip(FINDINGS, largest.tolist(), strict=True))


def test_redrawn_numbers_are_those_of_the_chosen_patients_only():
    patients = _patients(torch.zeros(4, len(FINDINGS)))
    chosen = torch.tensor([True, False, True, False])
    other = patients.redrawn({"Edema": chosen}, patients.draws.on("another"))
    assert torch.equal(other.u("oedema") != patients.u("oedema"), chosen)
    assert torch.equal(other.u("effusion side"), patients.u("effusion side"))
    assert torch.equal(other.with_columns({}).z("oedema"), other.z("oedema"))


def test_possible_twins_differ_only_where_a_finding_is_added(patients):
    twins = truth(patients, do(pleural_effusion="P"))
    others = possible_twins(patients, twins)
    had = (patients.table["Pleural Effusion"] == "P").to_numpy()
    is_equal = (others.images[:] == twins.images[:]).all((1, 2, 3))
    assert 0 < had.sum() < 16
    assert is_equal[had].all()
    assert not is_equal[~had].all()
    assert others.table.equals(twins.table)
    assert others.images.synthetic.all()


@pytest.mark.parametrize("action", [do(sex="M"), do(view="PA"), do(pleural_effusion="N")])
def test_the_radiograph_determines_twins_to_which_nothing_is_added(patients, action):
    twins = truth(patients, action)
    findings = list(FINDINGS)
    kept = ((twins.table[findings] == "N") | (patients.table[findings] == "P")).all(axis=1)
    rows = np.flatnonzero(kept)
    assert len(rows) > 8
    others = possible_twins(patients, twins)
    assert np.array_equal(others.images[rows], twins.images[rows])


def test_another_seed_gives_another_possible_twin(patients):
    twins = truth(patients, do(pneumonia="P"))
    first, again, other = (possible_twins(patients, twins, seed=s).images[:] for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_possible_twin_depends_on_its_own_record_only(patients):
    twins = truth(patients, do(pneumonia="P"))
    rows = np.array([7, 2])
    some = possible_twins(patients.at(rows), twins.at(rows))
    assert np.array_equal(some.images[:], possible_twins(patients, twins).images[rows])


def test_cohorts_that_are_not_phantoms_and_their_twins_are_refused(patients):
    twins = truth(patients, do(sex="M"))
    with pytest.raises(CohortError, match="not those of these records"):
        possible_twins(patients, twins.head(3))
    pixels = patients.with_images(patients.images.with_pixels(patients.images[:]))
    with pytest.raises(CohortError, match="only phantoms know their noise"):
        possible_twins(pixels, twins)
