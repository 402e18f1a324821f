"""Recordings and results compared: identities, planted likeness, how stimuli are joined, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from made_animals import animal, network
from neuroprobe.comparison.metrics import METRICS, compare
from neuroprobe.comparison.stimuli import index_of, mean_responses, side_of
from neuroprobe.errors import ReaderError
from neuroprobe.recordings import read_rdms, write_recording
from neuroprobe.statistics.conditions import curves_of
from neuroprobe.statistics.encoding import encode
from neuroprobe.statistics.rdm_comparison import compare_rdms, noise_ceiling
from neuroprobe.statistics.rdms import Products

N = 24
OF_RESPONSES = [name for name in METRICS if name not in ("profiles",)]
QUICK: dict[str, dict[str, Any]] = {"rsa": {"n_draws": 50}, "cka": {"n_permutations": 99}}


def names_of(n: int = N) -> list[str]:
    return [f"image {number:02d}" for number in range(n)]


def brain(values: np.ndarray, repeats: int = 1, noise: float = 0.0, seed: int = 5) -> xr.DataTree:
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.repeat(np.arange(len(values)), repeats))
    table = {"stimulus_id": np.array(names_of(len(values)), dtype=object)[order]}
    return animal(values[order] + rng.normal(0, noise, (len(order), values.shape[1])), table)


def layers(**values: np.ndarray) -> xr.DataTree:
    nodes = {}
    for name, one in values.items():
        tree = network(one, {"stimulus_id": np.array(names_of(len(one)), dtype=object)}, (one.shape[1], 1, 1))
        nodes["/"] = tree.to_dataset()
        nodes[f"/responses/{name}"] = tree["responses/v1"].to_dataset(inherit=False)
    return xr.DataTree.from_dict(nodes)


@pytest.fixture
def latent(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(N, 6))


@pytest.mark.parametrize("metric", OF_RESPONSES)
def test_a_recording_is_like_itself(metric: str, latent: np.ndarray, rng: np.random.Generator) -> None:
    """And stays so when stimuli and units are permuted."""
    units, order = rng.permutation(6), rng.permutation(N)
    other = animal(latent[order][:, units], {"stimulus_id": np.array(names_of(), dtype=object)[order]})
    found = compare(layers(one=latent), other, metric, **QUICK.get(metric, {}))
    close = 1e-10 if metric in ("rsa", "cka", "linear", "pls", "neuron_to_neuron") else 0.02
    assert found["score"].values.ravel()[0] == pytest.approx(1, abs=close)
    assert found.attrs["metric"] == metric
    assert found.attrs["n_stimuli"] == N
    assert found.attrs["version"]
    assert found.attrs["definition"]


@pytest.mark.parametrize("metric", OF_RESPONSES)
def test_the_layer_that_is_like_the_brain_is_found(metric: str, latent: np.ndarray, rng: np.random.Generator) -> None:
    model = layers(other=rng.normal(size=(N, 20)), like=latent @ rng.normal(size=(6, 20)))
    found = compare(model, brain(latent @ rng.normal(size=(6, 15)), 4, 0.3), metric, **QUICK.get(metric, {}))
    score = found["score"].values.reshape(2, -1)[:, 0]
    assert found["layer"].values.tolist() == ["other", "like"]
    # 25 components of 21 stimuli to fit are too many, and are the published ones
    assert score[1] > (0.2 if metric == "pls" else 0.5) > abs(score[0])
    adjusted = found["p_adjusted"].values.reshape(2, -1)[:, 0]
    assert adjusted[0] > 0.05
    assert adjusted[1] < (0.5 if metric == "pls" else 0.05)


def test_blocks_of_units_do_not_matter(
    latent: np.ndarray, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, theirs = layers(a=latent @ rng.normal(size=(6, 20))), brain(latent, 3, 0.2)
    for metric in ("rsa", "cka"):
        whole = compare(model, theirs, metric, **QUICK[metric])
        with monkeypatch.context() as patch:
            for part in ("representations", "responses"):
                patch.setattr(f"neuroprobe.comparison.{part}.UNITS_AT_A_TIME", 3)
            xr.testing.assert_allclose(compare(model, theirs, metric, **QUICK[metric]), whole, rtol=1e-10, atol=1e-10)


def test_kernels_of_either_side_may_be_more(latent: np.ndarray, rng: np.random.Generator) -> None:
    one, several = layers(a=latent), layers(b=rng.normal(size=(N, 5)), c=latent @ rng.normal(size=(6, 7)))
    there, back = (compare(*sides, "cka", **QUICK["cka"]) for sides in ((one, several), (several, one)))
    assert (there["area"].values.tolist(), back["layer"].values.tolist()) == (["b", "c"], ["b", "c"])
    for name in ("score", "score_se"):
        np.testing.assert_allclose(there[name].values.T, back[name].values, atol=1e-12)
    assert there["score"].sel(area="c").item() > 0.3 > there["score"].sel(area="b").item()


def test_means_of_stimuli_are_those_of_conditions(latent: np.ndarray) -> None:
    """Of repetitions in any order, some of which are missing, and of other stimuli between them."""
    recording = brain(latent, 3, 0.5)
    recording["responses/v1/response"][::7, 1] = np.nan
    side = side_of("brain", recording, None, None)
    stimuli = tuple(names_of()[3:15])
    (means,) = mean_responses(side.populations[0], side.on, stimuli)
    index = index_of(side.populations[0], side.on, stimuli)
    values = recording["responses/v1/response"].values
    np.testing.assert_allclose(means, curves_of(values, index, len(stimuli)).mean, rtol=1e-12)
    assert means.shape == (12, 6)


def test_rsa_against_its_kernels(latent: np.ndarray, rng: np.random.Generator) -> None:
    model = layers(a=latent, b=rng.normal(size=(N, 9)))
    rdms = np.array([np.random.default_rng(n).gamma(2, 1, N * (N - 1) // 2) for n in range(4)])
    first, second = np.triu_indices(N, 1)
    text = np.array(names_of(), dtype=object)
    other = xr.Dataset(
        {"rdm": (("subject", "pair"), rdms)},
        coords={"subject": list("abcd"), "stimulus_1": ("pair", text[first]), "stimulus_2": ("pair", text[second])},
    )
    found = compare(model, other, "rsa", comparison="pearson", distance="euclidean", n_draws=50)
    products = Products(N, "euclidean")
    products.add(latent)
    expected = compare_rdms(products.distances()[None], rdms, "pearson")[0]
    np.testing.assert_allclose(found["subject_score"].values[0], expected)
    assert found["score"][0].item() == pytest.approx(expected.mean())
    assert (found["ceiling_lower"].item(), found["ceiling_upper"].item()) == noise_ceiling(rdms, "pearson")
    assert found.attrs["over"] == "both"
    assert found["share_chosen"].sum().item() == pytest.approx(1)


def test_regressions_against_their_kernel(latent: np.ndarray, rng: np.random.Generator) -> None:
    x, y = latent @ rng.normal(size=(6, 10)), latent @ rng.normal(size=(6, 4))
    found = compare(layers(a=x), brain(y), "ridge")
    assert found["score"].item() == pytest.approx(encode(x, y, "ridge").score, abs=1e-10)
    assert np.isnan(found["ceiling"].item())
    noisy = compare(layers(a=x), brain(y, 6, 1.0), "ridge")
    assert 0.5 < noisy["ceiling"].item() < 1
    assert noisy["ceiled_score"].item() == pytest.approx(noisy["score"].item() ** 2 / noisy["ceiling"].item())
    older = compare(layers(a=x), brain(y, 6, 1.0), "ridge", version="brainscore-2025")
    assert older["ceiled_score"].item() == pytest.approx((noisy["score"].item() / noisy["ceiling"].item()) ** 2)
    assert noisy["unit_area"].values.tolist() == ["v1"] * 4


def test_stimuli_that_do_not_match(latent: np.ndarray) -> None:
    model, fewer = layers(a=latent), brain(latent[:20])
    with pytest.raises(
        ReaderError,
        match=r"4 of the 24 stimuli of the model are not among the brain's \('image 20', 'image 21', 'image 22', "
        r"'image 23'\)\. Say `on`",
    ):
        compare(model, fewer, "cka")
    assert compare(model, fewer, "cka", join="inner", **QUICK["cka"]).attrs["n_stimuli"] == 20
    renamed = animal(latent, {"image_id": np.arange(N)})
    with pytest.raises(ReaderError, match=r"by 'stimulus_id' of the model and 'image_id' of the brain"):
        compare(model, renamed, "cka")
    with pytest.raises(ReaderError, match="24 of the 24 stimuli"):
        compare(model, renamed, "cka", join="inner")
    with pytest.raises(ReaderError, match="unknown column 'picture'"):
        compare(model, fewer, "cka", on="picture")
    with pytest.raises(ReaderError, match="unknown join 'left'"):
        compare(model, fewer, "cka", join="left")


def test_what_is_refused(latent: np.ndarray) -> None:
    model, theirs = layers(a=latent), brain(latent)
    with pytest.raises(ReaderError, match="unknown metric 'rsaa' \\(did you mean 'rsa'\\?\\)"):
        compare(model, theirs, "rsaa")
    with pytest.raises(ReaderError, match="rsa: got an unexpected keyword argument 'biased'"):
        compare(model, theirs, "rsa", biased=True)
    with pytest.raises(ReaderError, match="unknown comparison 'kendall'"):
        compare(model, theirs, "rsa", comparison="kendall")
    with pytest.raises(ReaderError, match="over='both' draws subjects, and there is one"):
        compare(model, theirs, "rsa", over="both")
    flat = latent.copy()
    flat[3] = 1.0
    with pytest.raises(ReaderError, match="a: some stimulus has the same response of all units"):
        compare(layers(a=flat), theirs, "rsa")
    with pytest.raises(ReaderError, match="version is brainscore-2026 or brainscore-2025"):
        compare(model, theirs, "ridge", version="2024")
    with pytest.raises(ReaderError, match="model: no layer with 'shapley_effect'"):
        compare(model, theirs, "profiles")


def test_dissimilarities_alone(data: Path, rng: np.random.Generator) -> None:
    rdms = read_rdms(data / "it92" / "fmri_IT_RDMs_15subjects.npz", labels=names_of(92))
    model = layers(a=rng.normal(size=(92, 30)))
    found = compare(model, rdms, "rsa", n_draws=10)
    assert found.sizes["subject"] == 15
    assert (round(found["ceiling_lower"].item(), 4), round(found["ceiling_upper"].item(), 4)) == (0.4525, 0.5422)
    assert found["p_below_ceiling"].item() < 0.05 < found["p_value"].item()
    with pytest.raises(ReaderError, match="cka needs responses, and these are dissimilarities"):
        compare(model, rdms, "cka")
    with pytest.raises(ReaderError, match="go on the other side"):
        compare(rdms, model, "rsa")


def test_stored_recordings(latent: np.ndarray, tmp_path: Path) -> None:
    write_recording(brain(latent, 2, 0.1), tmp_path / "animal.zarr")
    found = compare(layers(a=latent), tmp_path / "animal.zarr", "cka", **QUICK["cka"])
    assert found["score"].item() > 0.9


def profiles(rng: np.random.Generator, **alphas: list[float]) -> xr.DataTree:
    nodes = {}
    for name, alpha in alphas.items():
        shares = rng.dirichlet(alpha, 40).T
        nodes[f"/shapley/{name}"] = xr.Dataset(
            {"shapley_effect": (("factor", "channel"), shares)}, coords={"factor": ["hue", "blur", "noise"]}
        )
    return xr.DataTree.from_dict(nodes)


def test_the_same_population_is_not_told_apart_more_often_than_by_chance() -> None:
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        alike = [profiles(rng, it=[8, 1, 1]) for _ in range(2)]
        found.append(compare(*alike, "profiles", n_permutations=39)["p_value"].item())
    assert np.mean(np.array(found) <= 0.05) <= 0.2


def test_planted_profiles(rng: np.random.Generator) -> None:
    model = profiles(rng, early=[1, 8, 1], late=[8, 1, 1])
    theirs = profiles(rng, it=[8, 1, 1])
    theirs["shapley/it/shapley_effect"][:, 3] = np.nan
    found = compare(model, theirs, "profiles", n_permutations=99)
    assert found["energy"].sel(area="it").values.argmin() == 1
    assert found["p_adjusted"].sel(area="it", layer="early").item() < 0.05
    relative = found["relative"].sel(area="it")
    assert relative.sel(layer="late").item() < 0.25 * relative.sel(layer="early").item()
    assert (found["kolmogorov_p_adjusted"].sel(layer="early", factor=["hue", "blur"]) < 0.05).all()
    assert found["n_units"].values.tolist() == [40, 40]
    # the unit that is like each neuron, of those that have a profile
    assert found.sizes["neuron"] == 39
    assert 3 not in found["neuron_unit"].values
    late, it = (tree[f"shapley/{name}/shapley_effect"].values.T for tree, name in ((model, "late"), (theirs, "it")))
    far = np.linalg.norm(it[found["neuron_unit"].values][:, None] - late, axis=2)
    np.testing.assert_array_equal(found["nearest_unit"].sel(layer="late"), far.argmin(1))
    np.testing.assert_allclose(found["nearest_distance"].sel(layer="late"), far.min(1))
    fewer = theirs["shapley/it"].to_dataset().sel(factor=["noise"])
    alone = compare(model, xr.DataTree.from_dict({"/shapley/it": fewer}), "profiles", n_permutations=9)
    assert alone["factor"].values.tolist() == ["noise"]
    other = fewer.assign_coords(factor=["contrast"])
    with pytest.raises(ReaderError, match="no factor is on both sides: hue, blur, noise and contrast"):
        compare(model, xr.DataTree.from_dict({"/shapley/it": other}), "profiles")


def test_distances_in_units_of_noise(latent: np.ndarray) -> None:
    """Of repetitions: crossnobis of the brain alone, as networks without noise have none."""
    animal_ = brain(latent, repeats=4, noise=1.0)
    found = compare(layers(one=latent), animal_, "rsa", distance_brain="crossnobis", n_draws=20)
    assert "correlation and crossnobis" in found.attrs["version"]
    assert found["score"].values[0] > 0.4
    both = compare(animal_, animal_, "rsa", distance="crossnobis", n_draws=20)
    assert both["score"].values[0] == pytest.approx(1, abs=1e-10)
    with pytest.raises(ReaderError, match="crossnobis takes repetitions of each stimulus, and there are none"):
        compare(layers(one=latent), animal_, "rsa", distance="crossnobis")
    with pytest.raises(ReaderError, match="unknown distance_brain 'crossnobi'"):
        compare(layers(one=latent), animal_, "rsa", distance_brain="crossnobi")
