"""Comparisons, ceilings and their errors: published numbers, rsatoolbox, scipy, identities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from neuroprobe.recordings.rdms import read_rdms
from neuroprobe.statistics.cka import Kernel, cka
from neuroprobe.statistics.rdm_comparison import METHODS, WHITENED, compare_rdms, noise_ceiling
from neuroprobe.statistics.rdm_inference import bootstrap, ceiling_of, infer, pairs_of
from neuroprobe.statistics.rdms import Products

EVERY = pytest.mark.parametrize("method", METHODS)
IN_RSATOOLBOX = {"pearson": "corr", "rho_a": "rho-a", "tau_a": "tau-a", "tau_b": "tau-b"}
# Net2Brain's 15 subjects, rsatoolbox 0.3.2
CEILINGS = {
    "cosine": (0.9715, 0.9752),
    "pearson": (0.4593, 0.5492),
    "spearman": (0.4525, 0.5422),
    "cosine_cov": (0.6392, 0.6920),
    "corr_cov": (0.4979, 0.5752),
}


def matrices(n: int = 4, stimuli: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(3, 1, (n, stimuli * (stimuli - 1) // 2))


@pytest.fixture(scope="module")
def it(data: Path) -> np.ndarray:
    return read_rdms(data / "it92" / "fmri_IT_RDMs_15subjects.npz")["rdm"].values


@pytest.mark.parametrize("method", CEILINGS)
def test_ceilings_of_human_it(method: str, it: np.ndarray) -> None:
    assert tuple(round(bound, 4) for bound in noise_ceiling(it, method)) == CEILINGS[method]


def test_ceilings_of_brainscore(data: Path, it: np.ndarray) -> None:
    lower, upper = noise_ceiling(it, "spearman", "brainscore")
    assert (round(lower, 4), round(upper, 4)) == (0.4486, 0.5346)
    early = read_rdms(data / "it92" / "fmri_EVC_RDMs_15subjects.npz")["rdm"].values
    lower, upper = noise_ceiling(early, "spearman", "brainscore")
    assert (round(lower, 3), round(upper, 3)) == (0.239, 0.386)
    squared = noise_ceiling(it, "spearman", "net2brain")
    assert squared[0] > lower**2
    with pytest.raises(ValueError, match="unknown ceiling 'brain'"):
        noise_ceiling(it, "spearman", "brain")


def test_monkey_and_man(data: Path) -> None:
    folder = data / "it92"
    both = read_rdms(folder / "Kriegeskorte_Neuron2008_supplementalData.mat", variable="RDMs_mIT_hIT_fig1")[
        "rdm"
    ].values
    assert compare_rdms(both[:1], both[1:], "spearman").item() == pytest.approx(0.4389, abs=5e-5)
    assert compare_rdms(both[:1], both[1:], "pearson").item() == pytest.approx(0.4912, abs=5e-5)
    models = read_rdms(folder / "92_modelRDMs.mat")
    names = [str(name) for name in models["subject"].values]
    found = compare_rdms(models["rdm"].values, both[1:], "spearman").ravel()
    by_name = {name: round(float(value), 3) for name, value in zip(names, found, strict=True)}
    for part, expected in (("anim", 0.588), ("HMAX", 0.222), ("V1", 0.039)):
        assert expected in [value for name, value in by_name.items() if part.lower() in name.lower()], by_name


@EVERY
def test_identities(method: str) -> None:
    a = matrices()
    found = compare_rdms(a, a, method)
    np.testing.assert_allclose(np.diag(found), 1, atol=1e-10)
    np.testing.assert_allclose(found, found.T, atol=1e-10)
    order = np.random.default_rng(1).permutation(8)
    pairs, kept = pairs_of(order, 8)
    assert kept.all()
    np.testing.assert_allclose(compare_rdms(a[:, pairs], a[:, pairs], method), found, atol=1e-10)


@EVERY
def test_rsatoolbox_compares_alike(method: str) -> None:
    rsa = pytest.importorskip("rsatoolbox", reason="pip install 'neuroprobe[compare]'")
    a, b = matrices(3), np.round(matrices(4, seed=1))
    theirs = rsa.rdm.compare(rsa.rdm.RDMs(a), rsa.rdm.RDMs(b), method=IN_RSATOOLBOX.get(method, method))
    np.testing.assert_allclose(compare_rdms(a, b, method), theirs, atol=1e-10)
    if method not in ("tau_a", "tau_b"):
        theirs = rsa.inference.boot_noise_ceiling(rsa.rdm.RDMs(b), method=IN_RSATOOLBOX.get(method, method))
        np.testing.assert_allclose(noise_ceiling(b, method), theirs, atol=1e-10)


def test_scipy_correlates_alike() -> None:
    a, b = matrices(1)[0], np.round(matrices(1, seed=1))[0]
    for method, theirs in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr), ("tau_b", stats.kendalltau)):
        assert compare_rdms(a[None], b[None], method).item() == pytest.approx(theirs(a, b).statistic, abs=1e-12)
    signs = np.sign(a[:, None] - a) * np.sign(b[:, None] - b)
    n = len(a)
    assert compare_rdms(a[None], b[None], "tau_a").item() == pytest.approx(signs.sum() / (n * (n - 1)), abs=1e-12)


@given(st.integers(0, 10**6))
def test_the_whitened_cosine_is_linear_cka(seed: int) -> None:
    """Of squared Euclidean distances (Diedrichsen et al. 2020)."""
    rng = np.random.default_rng(seed)
    sides, rdms, kernels = [rng.normal(size=(7, n)) for n in (5, 9)], [], []
    for side in sides:
        products, kernel = Products(7, "euclidean"), Kernel(7)
        products.add(side)
        kernel.add(side)
        rdms.append(products.distances()[None])
        kernels.append(kernel.matrix)
    whitened = compare_rdms(*rdms, "cosine_cov").item()
    assert whitened == pytest.approx(cka(*kernels, biased=True), abs=1e-10)


def test_missing_pairs_are_left_out_or_refused() -> None:
    a = matrices()
    a[1, 3] = np.nan
    np.testing.assert_allclose(compare_rdms(a, a[:1]), compare_rdms(*(np.delete(x, 3, 1) for x in (a, a[:1]))))
    for method in WHITENED:
        with pytest.raises(ValueError, match=f"{method} needs all pairs of stimuli, and 1 are missing"):
            compare_rdms(a, a, method)
    with pytest.raises(ValueError, match="unknown comparison 'kendall'; known: cosine"):
        compare_rdms(a, a, "kendall")
    constant = np.ones((1, 28))
    assert np.isnan(compare_rdms(constant, matrices(1), "pearson")).all()


def simulated(rng: np.random.Generator, n: int = 20, subjects: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """A good model and a bad one, and subjects that see the same stimuli through noise."""
    true = rng.normal(size=(n, 6))
    rdms = []
    for side in [true, rng.normal(size=(n, 6))]:
        products = Products(n, "euclidean")
        products.add(side)
        rdms.append(products.distances())
    noisy = rdms[0] + rng.gamma(2, 0.4, (subjects, len(rdms[0])))
    return np.array(rdms), noisy


def test_draws_of_stimuli_leave_pairs_of_one_stimulus_out() -> None:
    models, subjects = simulated(np.random.default_rng(0), n=6, subjects=3)
    draws = bootstrap(models, subjects, "cosine", 20, np.random.default_rng(1))
    of_stimuli = np.random.default_rng(1).integers(0, 6, (20, 6))
    some = next(one for one in of_stimuli if len(np.unique(one)) >= 3)
    square = np.zeros((5, 6, 6))
    square[:, *np.triu_indices(6, 1)] = np.concatenate([models, subjects])
    square += square.transpose(0, 2, 1)
    first, second = np.triu_indices(6, 1)
    kept = some[first] != some[second]
    drawn = square[:, some[first][kept], some[second][kept]]
    expected = compare_rdms(drawn[:2], drawn[2:], "cosine").mean(1)
    np.testing.assert_allclose(draws.stimuli[0], expected)


def test_inference_tells_a_good_model_from_a_bad_one() -> None:
    models, subjects = simulated(np.random.default_rng(0))
    found = infer(models, subjects, "pearson", 200, np.random.default_rng(1))
    assert found.score[0] > 0.5
    assert found.p_value[0] < 1e-3 < 0.05 < found.p_value[1]
    assert found.difference_p[0, 1] < 1e-3
    assert found.difference[0, 1] == -found.difference[1, 0]
    assert found.degrees == 7
    for over, degrees in (("stimuli", 19), ("subjects", 7)):
        alone = infer(models, subjects, "pearson", 200, np.random.default_rng(1), over=over)
        assert alone.degrees == degrees
        assert (alone.se < 1.05 * found.se).all()
    draws = bootstrap(models, subjects, "pearson", 200, np.random.default_rng(1))
    assert (found.se <= draws.both.std(0, ddof=1) + 1e-12).all()
    one = infer(models, subjects[:1], "pearson", 50, np.random.default_rng(1))
    assert np.isnan(one.se).all()


def test_errors_of_the_dual_bootstrap_are_those_of_new_experiments() -> None:
    """Standard errors against the spread of scores over experiments with other stimuli and other subjects."""
    scores, errors = [], []
    for number in range(60):
        models, subjects = simulated(np.random.default_rng(number), n=16, subjects=6)
        found = infer(models[:1], subjects, "pearson", 60, np.random.default_rng(number))
        scores.append(found.score[0])
        errors.append(found.se[0])
    ratio = np.sqrt(np.mean(np.square(errors))) / np.std(scores, ddof=1)
    assert 0.7 < ratio < 1.5


def test_ceilings_have_intervals() -> None:
    _, subjects = simulated(np.random.default_rng(0))
    found = ceiling_of(subjects, "spearman", "rsatoolbox", 40, np.random.default_rng(2))
    assert found.lower < found.upper
    assert found.lower_interval[0] < found.lower < found.lower_interval[1] + 0.05
    alone = ceiling_of(subjects[:1], "spearman", "rsatoolbox", 10, np.random.default_rng(2))
    assert np.isnan([alone.lower, alone.upper, *alone.lower_interval]).all()
