"""Bias of predictions towards classes: fences in closed form and by simulation, sums against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neuroprobe.statistics.plain_sums import PlainSums
from neuroprobe.statistics.single_class import (
    SingleClassAccumulator,
    finalize,
    hypergeometric_fence,
    jaccard_of,
    memberships,
    random_jaccard,
    random_sets,
    sensitive_classes,
    state_shapes,
)

INPUTS, FACTORS, RULES, CLASSES, K, SETS, DRAWS = 2, 3, 2, 7, 2, 9, 3


def jaccard(left: np.ndarray, right: np.ndarray) -> float:
    both = set(left.tolist()), set(right.tolist())
    return len(both[0] & both[1]) / len(both[0] | both[1])


class Run:
    """Random predictions of images, most of all of the first classes, and what is known of each image."""

    def __init__(self, seed: int, n: int) -> None:
        rng = np.random.default_rng(seed)
        tilt = -0.4 * np.arange(CLASSES)
        self.sets = np.array([[0, 1], [2, 4], [6, 0]])
        self.random = random_sets(CLASSES, K, SETS, rng)
        # outputs of images, draws and inputs; with nothing masked first, then by factor and rule
        self.intact = (tilt + rng.gumbel(size=(n, INPUTS, DRAWS, CLASSES))).argsort(-1)[..., ::-1][..., :K]
        masked = tilt + rng.gumbel(size=(n, INPUTS, DRAWS, FACTORS, RULES, CLASSES))
        masked[..., 4] += 1
        self.masked = masked.argsort(-1)[..., ::-1][..., :K]
        self.target = rng.integers(0, CLASSES - 1, n)  # the last class has no image

    def index(self, predicted: np.ndarray, sets: np.ndarray) -> np.ndarray:
        """Index of each set and predictions (images, …), mean over draws (third axis)."""
        found = [[jaccard(one, two) for two in sets] for one in predicted.reshape(-1, K)]
        return np.reshape(found, (*predicted.shape[:-1], len(sets))).mean(2)

    def of_images(self) -> dict[str, np.ndarray]:
        lesioned = self.index(self.masked, self.sets)  # (images, inputs, factors, rules, sets)
        one_hot = np.eye(CLASSES)
        share0 = one_hot[self.intact[..., 0]].mean(2)
        share = one_hot[self.masked[..., 0, 0]].mean(2)  # by the first rule
        images = np.arange(len(self.target))
        return {
            "intact": self.index(self.intact, self.sets),
            "lesioned": np.stack([lesioned[:, :, factor, :, factor] for factor in range(FACTORS)], 2),
            "random0": self.index(self.intact, self.random),
            "random": self.index(self.masked, self.random),
            "share0": share0,
            "share": share,
            "hit0": share0[images, :, self.target],
            "hit": share[images, :, :, self.target],
        }


def summed(run: Run, block: int = 10**6, pack: int = 10**6, n_dropped: int = 0) -> PlainSums:
    """Sums in blocks, each taken in a pack at a time, merged from the right."""
    values = run.of_images()
    accumulator = SingleClassAccumulator(INPUTS, FACTORS, RULES, SETS, CLASSES)
    n, blocks = len(run.target), []
    for start in range(0, n, block):
        for at in range(start, min(start + block, n), pack):
            part = slice(at, min(at + pack, start + block, n))
            of = {name: array[part] for name, array in values.items()}
            accumulator.update(
                of["intact"],
                of["lesioned"],
                (of["random0"].sum(0), of["random"].sum(0)),
                (of["share0"], of["share"]),
                (of["hit0"], of["hit"]),
                run.target[part],
                n_dropped if not at else 0,
            )
        blocks.append(accumulator.end_block())
    while len(blocks) > 1:
        right = blocks.pop()
        blocks[-1].merge(right)
    return blocks[0]


@settings(max_examples=15)
@given(st.integers(2, 20), st.integers(1, 25), st.integers(1, 6), st.integers(0, 2))
def test_sums_in_any_blocks_give_what_brute_force_gives(n: int, block: int, pack: int, dropped: int) -> None:
    run = Run(n, n)
    found, values = finalize(summed(run, block, pack, dropped)), run.of_images()
    assert found["n"].tolist() == [n, dropped]
    difference = values["lesioned"] - values["intact"][..., None]
    for name, given_ in (("unlesioned", values["intact"]), ("jaccard", values["lesioned"]), ("difference", difference)):
        mean, se, reach = given_.mean(0), stats.sem(given_), stats.t.ppf(0.975, n - 1)
        np.testing.assert_allclose(found[name], mean, atol=1e-13)
        np.testing.assert_allclose(found[f"{name}_se"], se, atol=1e-7)
        np.testing.assert_allclose(found[f"{name}_lower"], mean - reach * se, atol=1e-6)
        np.testing.assert_allclose(found[f"{name}_upper"], mean + reach * se, atol=1e-6)
    # p-values by counting, ties with the sensitive classes among them
    random0, random = values["random0"].mean(0), values["random"].mean(0)
    for at in np.ndindex(INPUTS, FACTORS):
        above = sum(one > found["unlesioned"][at] - 1e-9 for one in random0[at[0]])
        assert found["p_unlesioned"][at] == (1 + above) / (1 + SETS)
        for rule in range(RULES):
            cell = (*at, rule)
            above = sum(one > found["jaccard"][cell] - 1e-9 for one in random0[at[0]])
            assert found["p_value"][cell] == (1 + above) / (1 + SETS)
            above = sum(one > found["difference"][cell] - 1e-9 for one in random[cell] - random0[at[0]])
            assert found["p_shift"][cell] == (1 + above) / (1 + SETS)
    low, high = np.quantile(random0, [0.25, 0.75], axis=1)
    np.testing.assert_allclose(found["fence"], high + 1.5 * (high - low), atol=1e-12)
    shift = values["share"] - values["share0"][:, :, None]
    np.testing.assert_allclose(found["class_share"], values["share0"].mean(0), atol=1e-13)
    np.testing.assert_allclose(found["class_share_shift"], shift.mean(0), atol=1e-13)
    np.testing.assert_allclose(found["class_share_shift_se"], stats.sem(shift), atol=1e-7)
    for number in range(CLASSES):
        own = run.target == number
        recall, moved = found["recall"][:, number], found["recall_shift"][..., number]
        if not own.any():
            assert np.isnan(recall).all()
            assert np.isnan(moved).all()
            continue
        np.testing.assert_allclose(recall, values["share0"][own, :, number].mean(0), atol=1e-13)
        if own.sum() > 1:
            hits = shift[own][..., number]
            np.testing.assert_allclose(moved, hits.mean(0), atol=1e-13)
            np.testing.assert_allclose(found["recall_shift_se"][..., number], stats.sem(hits), atol=1e-7)
        else:
            assert np.isnan(found["recall_shift_se"][..., number]).all()


def test_the_class_without_an_image_has_no_recall() -> None:
    found = finalize(summed(Run(3, 60)))
    np.testing.assert_array_equal(np.isnan(found["recall"]), [[False] * (CLASSES - 1) + [True]] * INPUTS)
    assert np.isfinite(found["class_share"]).all()
    np.testing.assert_allclose(found["class_share"].sum(1), 1)


def test_random_sets_that_tie_count() -> None:
    """Sets of the sensitive classes themselves are as large as these, and no p-value is 0."""
    run = Run(5, 25)
    run.random = np.array([[0, 1]] * 3 + [[5, 6]] * (SETS - 3))
    found = finalize(summed(run))
    assert (found["p_unlesioned"][:, 0] == 4 / 10).all()
    assert (found["p_shift"][:, 0] >= 4 / 10).all()
    for name in ("p_unlesioned", "p_value", "p_shift"):
        assert (found[name] >= 1 / 10).all()
        assert (found[name] <= 1).all()


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_images_give_no_p_value(n: int) -> None:
    accumulator = SingleClassAccumulator(INPUTS, FACTORS, RULES, SETS, CLASSES)
    cells = (n, INPUTS, FACTORS)
    accumulator.update(
        np.ones(cells),
        np.ones((*cells, RULES)),
        (np.zeros((INPUTS, SETS)), np.zeros((INPUTS, FACTORS, RULES, SETS))),
        (np.zeros((n, INPUTS, CLASSES)), np.zeros((*cells, CLASSES))),
        (np.zeros((n, INPUTS)), np.zeros(cells)),
        np.zeros(n, np.int64),
        4,
    )
    found = finalize(accumulator.end_block())
    for name in ("jaccard", "jaccard_upper", "difference_se", "p_unlesioned", "p_value", "p_shift"):
        assert np.isnan(found[name]).all(), name
    for name in ("fence", "class_share"):
        assert np.isnan(found[name]).all() == (n == 0), name


def test_predictions_of_classes_that_mean_nothing_give_uniform_p_values(rng: np.random.Generator) -> None:
    """However unalike the classes are predicted: that of a set drawn at random is that of any."""
    n_images, n_factors, n_sets = 60, 400, 199
    predicted = (rng.gumbel(size=(n_images, 30)) - 0.1 * np.arange(30)).argsort(-1)[:, :-4:-1]
    shown = memberships(predicted, 30)

    def index(sets: np.ndarray) -> np.ndarray:
        shared = shown @ memberships(sets, 30).T
        return shared / (6 - shared)

    intact = index(random_sets(30, 3, n_factors, rng))[:, None]
    accumulator = SingleClassAccumulator(1, n_factors, 1, n_sets, 30)
    nothing = np.zeros((n_images, 1, 30)), np.zeros((n_images, 1, n_factors, 30))
    random = index(random_sets(30, 3, n_sets, rng)).sum(0)
    accumulator.update(
        intact,
        intact[..., None],
        (random[None], np.broadcast_to(random, (1, n_factors, 1, n_sets))),
        nothing,
        (np.zeros((n_images, 1)), np.zeros((n_images, 1, n_factors))),
        np.zeros(n_images, np.int64),
    )
    found = finalize(accumulator.end_block())
    for level in (0.05, 0.25, 0.5, 0.75):
        # of 400 sets, compared with 199 ones
        error = np.sqrt(level * (1 - level) * (1 / n_factors + 1 / n_sets))
        assert (found["p_unlesioned"] <= level).mean() == pytest.approx(level, abs=4 * error)
    np.testing.assert_array_equal(found["p_value"][0, :, 0], found["p_unlesioned"][0])
    assert (found["p_shift"] == 1).all()  # nothing moved


def test_the_state_has_its_shapes() -> None:
    state = summed(Run(0, 4)).state()
    shapes = state_shapes(INPUTS, FACTORS, RULES, SETS, CLASSES)
    assert {name: tuple(array.shape) for name, array in state.items()} == shapes


# sets of classes


@pytest.mark.parametrize(
    ("sensitivity", "k", "expected"),
    [
        ([0.1, 0.5, 0.3, 0.4], 2, [1, 3]),
        ([0.5, 0.1, 0.5, 0.5], 2, [0, 2]),  # of equal ones the first
        ([0.0, 0.0, -0.0, 0.0], 3, [0, 1, 2]),
        ([np.nan, 0.0, np.nan, 0.2], 2, [3, 1]),
        ([np.nan, -0.2, np.nan, -0.1], 2, [3, 1]),
        ([np.nan, 0.3, 0.3, 0.3], 1, [1]),
    ],
)
def test_sensitive_classes(sensitivity: list[float], k: int, expected: list[int]) -> None:
    other = [0.0, 0.1, 0.2, 0.3]
    found = sensitive_classes(np.array([sensitivity, other]), k)
    assert found.tolist() == [expected, [3, 2, 1][:k]]


def test_random_sets_are_sets_and_all_of_them_alike(rng: np.random.Generator) -> None:
    sets = random_sets(5, 2, 6000, rng)
    assert (sets[:, 0] != sets[:, 1]).all()
    codes = np.sort(sets, 1) @ [5, 1]
    _, counts = np.unique(codes, return_counts=True)
    assert len(counts) == 10
    assert stats.chisquare(counts).pvalue > 1e-4
    written = memberships(sets, 5)
    assert (written.sum(1) == 2).all()
    assert (np.take_along_axis(written, sets, 1) == 1).all()


@pytest.mark.parametrize(("left", "right"), [([0, 1, 2], [2, 3, 4]), ([0, 1, 2], [1, 2, 0]), ([0, 1, 2], [3, 4, 5])])
def test_the_index_is_that_of_the_sets(left: list[int], right: list[int]) -> None:
    assert jaccard_of(len({*left} & {*right}), 3) == jaccard(np.array(left), np.array(right))


# fences


@pytest.mark.parametrize(
    ("n_classes", "n_images", "fence", "mean", "deviation"),
    [(1000, 50_000, 0.0029953, 0.00278, 0.00008), (365, 36_500, 0.0080627, 0.00765, 0.00015)],
)
def test_the_studys_fences(n_classes: int, n_images: int, fence: float, mean: float, deviation: float) -> None:
    assert hypergeometric_fence(n_classes, 5, n_images) == pytest.approx(fence, abs=5e-8)
    found, spread = random_jaccard(n_classes, 5)
    assert found == pytest.approx(mean, abs=1e-5)
    assert spread / np.sqrt(n_images) == pytest.approx(deviation, abs=5e-6)
    # Tukey's, of a normal law with exact moments
    quartile = stats.norm(found, spread / np.sqrt(n_images)).ppf([0.25, 0.75])
    assert hypergeometric_fence(n_classes, 5, n_images) == pytest.approx(quartile[1] + 1.5 * np.ptp(quartile))


def test_the_fence_is_that_of_random_predictions(rng: np.random.Generator) -> None:
    """Of one set of 5 among 20 and 400 images, each with a random set of 5."""
    n_runs, n_images = 2000, 400
    shared = (rng.random((n_runs * n_images, 20)).argpartition(5, axis=1)[:, :5] < 5).sum(1)
    index = shared / (10 - shared)
    mean, deviation = random_jaccard(20, 5)
    assert index.mean() == pytest.approx(mean, abs=4 * deviation / np.sqrt(len(index)))
    assert index.std() == pytest.approx(deviation, rel=0.01)
    runs = index.reshape(n_runs, n_images).mean(1)
    low, high = np.quantile(runs, [0.25, 0.75])
    # the fence is 2.5 times the upper quartile less 1.5 times the lower one, each with an error of 1.36 sd / √runs
    error = 1.36 * np.sqrt(2.5**2 + 1.5**2 - 2 * 2.5 * 1.5 / 3) * deviation / np.sqrt(n_images * n_runs)
    assert high + 1.5 * (high - low) == pytest.approx(hypergeometric_fence(20, 5, n_images), abs=4 * error)
