"""Twins at the size of the radiograph: the null is exact, the change is that of the model."""

import numpy as np
import pytest
import torch

from causalcxr.common.errors import CohortError
from causalcxr.common.random_numbers import Draws
from causalcxr.graph.graph import Graph
from causalcxr.images.resampling import Resampling
from causalcxr.mechanisms.image import ImageMechanism
from causalcxr.mechanisms.native_image import NativeImageEquation
from causalcxr.radit.solvers import on_lattice
from causalcxr.radit.vae import RadVAEConfig
from causalcxr.radit.vae_weights import rad_vae, save_codec

SIZES = [(16, 16), (17, 17), (64, 48), (40, 100), (128, 128)]
DRAWS = Draws(np.arange(3, dtype=np.uint64))


def image_mechanism(**options: object) -> ImageMechanism:
    """Return an untrained image equation of 16 pixels whose images change with their parents."""
    graph = Graph.load("cxr7")
    parents = [graph[name] for name in graph[graph.image].parents]
    fast = {"resolution": 16, "solver_steps": 2, "weights": "", **options}
    mechanism = ImageMechanism(graph[graph.image], parents, **fast)
    generator = torch.Generator().manual_seed(0)
    for weights in mechanism.net.parameters():
        weights.data += 0.03 * torch.randn(weights.shape, generator=generator)
    mechanism.chunk.size = 3
    return mechanism.eval().requires_grad_(False)


def bound(mechanism: ImageMechanism, value: float, n: int = 3) -> dict[str, torch.Tensor]:
    """Return the same value for every parent."""
    return {parent.name: torch.full((n,), value).double() for parent in mechanism.parents}


def radiographs(size: tuple[int, int], n: int = 3, bits: int = 16) -> torch.Tensor:
    """Return images of random pixels, of so many bits."""
    pixels = np.random.default_rng(0).integers(0, 2**bits, (n, 1, *size))
    return torch.from_numpy((pixels / (2**bits - 1)).astype(np.float32).astype(np.float64))


@pytest.fixture(scope="module", params=["inversion", "transport"])
def mechanism(request):
    return image_mechanism(coupling=request.param)


@pytest.mark.parametrize(("size", "bits"), zip(SIZES, (8, 12, 16, 8, 12), strict=True))
def test_under_the_same_parents_the_native_image_returns_bit_for_bit(mechanism, size, bits):
    x, equation = radiographs(size, bits=bits), mechanism(bound(mechanism, 0.0)).sized(*size)
    assert (equation.predict(equation.abduct(x, DRAWS)) == x).all()


@pytest.mark.parametrize("size", SIZES[1:3])
def test_the_twin_is_the_image_and_the_enlarged_change_of_the_model(mechanism, size):
    x = radiographs(size)
    facts, others = (mechanism(bound(mechanism, value)) for value in (0.0, 1.0))
    twin = others.sized(*size).predict(facts.sized(*size).abduct(x, DRAWS))
    assert twin.shape == x.shape
    resampling = Resampling(size, (16, 16))
    small = on_lattice(torch.from_numpy(resampling.shrink(x[:, 0].numpy())))[:, None]
    change = others.predict(facts.abduct(small, DRAWS)) - small
    assert change.abs().mean() > 0.001
    large = resampling.enlarge(change[:, 0].numpy())
    np.testing.assert_allclose((twin - x)[:, 0], large, atol=1e-12)


def test_a_twin_depends_on_its_own_record_only(mechanism):
    x, size = radiographs((64, 48)), (64, 48)
    facts, others = (mechanism(bound(mechanism, v)).sized(*size) for v in (0.0, 1.0))
    together = others.predict(facts.abduct(x, DRAWS))
    facts, others = (mechanism(bound(mechanism, v, 1)).sized(*size) for v in (0.0, 1.0))
    alone = others.predict(facts.abduct(x[[2]], DRAWS.rows(np.array([2]))))
    assert (together[[2]] == alone).all()


def test_with_an_autoencoder_the_null_is_exact_as_well(tmp_path):
    save_codec(tmp_path / "codec.safetensors", rad_vae(RadVAEConfig.from_name("tiny"), seed=0))
    for coupling in ("inversion", "transport"):
        for remainder in ("carry", "fade"):
            mechanism = image_mechanism(
                codec=str(tmp_path / "codec.safetensors"), coupling=coupling, remainder=remainder
            )
            equation, x = mechanism(bound(mechanism, 0.0)).sized(96, 80), radiographs((96, 80))
            assert (equation.predict(equation.abduct(x, DRAWS)) == x).all()


def test_an_equation_of_its_own_size_is_unchanged_and_a_sample_has_no_detail(mechanism):
    equation = mechanism(bound(mechanism, 0.0))
    assert equation.sized(16, 16) is equation
    native = equation.sized(64, 64)
    assert isinstance(native, NativeImageEquation)
    noise = native.sample_noise(DRAWS)
    sample = equation.predict(equation.sample_noise(DRAWS))
    large = Resampling((64, 64), (16, 16)).enlarge(sample[:, 0].numpy())
    np.testing.assert_allclose(native.predict(noise)[:, 0], large, atol=1e-12)
    assert (native.standard(noise) == equation.standard(equation.sample_noise(DRAWS))).all()
    assert native.reaching({"Sex"}).equation.solving.guided == {"Sex"}


def test_images_smaller_than_the_model_are_refused(mechanism):
    with pytest.raises(CohortError, match="15 x 15 pixels, smaller than the model's 16 x 16"):
        mechanism(bound(mechanism, 0.0)).sized(15, 15)
