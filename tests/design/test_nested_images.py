from __future__ import annotations

import itertools

import numpy as np
import pytest

from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.nested_images import LEVELS, NestedImages
from neuroprobe.design.pick_freeze import PickFreeze, Presentations
from neuroprobe.statistics.estimators import DifferenceTerms
from neuroprobe.statistics.indices import finalize
from oracles import stream_design

X = Factor("x", (Input("x", Law("uniform", (-(3**0.5), 3**0.5))),))  # of variance 1
ON = Factor("on", (Input("on", Law("bernoulli", (0.5,))),))
SIZES = ((2, 4, 4), (8, 4, 1))  # images of each class in each partition
N = int(np.sum(SIZES))


def nested(sizes: tuple[tuple[int, ...], ...] = SIZES, *, by_size: bool = False) -> NestedImages:
    number = itertools.count()
    members = tuple(tuple(np.array([next(number) for _ in range(n)]) for n in classes) for classes in sizes)
    return NestedImages(members, tuple(float(sum(classes)) for classes in sizes), by_size)


def design(images: NestedImages, *listed: str, others: tuple[Factor, ...] = (X,), **options: object) -> PickFreeze:
    return PickFreeze((*others, *images.factors(listed)), 3, N, nested=images, **{"scramble": 64, **options})


def place(images: NestedImages) -> dict[int, tuple[int, int, int]]:
    """Image → partition, class, rank."""
    return {
        int(image): (p, c, r)
        for p, classes in enumerate(images.members)
        for c, members in enumerate(classes)
        for r, image in enumerate(members)
    }


@pytest.mark.parametrize("by_size", [False, True])
def test_an_image_is_as_probable_as_its_place_says(by_size: bool) -> None:
    images = nested(by_size=by_size)
    middles = (np.arange(240) + 0.5) / 240  # 240: whole numbers of steps for all sizes but 10:13 and 8:4:1
    grid = np.meshgrid(middles, middles, middles[::10], indexing="ij")
    u = {f"{level}_u": axis for level, axis in zip(LEVELS, grid, strict=True)}
    share = np.bincount(images.images(u).ravel(), minlength=N) / 240**2 / 24
    for image, (p, c, _) in place(images).items():
        of_class = SIZES[p][c] / sum(SIZES[p]) if by_size else 1 / 3
        assert share[image] == pytest.approx(sum(SIZES[p]) / N * of_class / SIZES[p][c], abs=0.01)


@pytest.mark.parametrize("u", [0.0, 0.1, 0.5, 0.9, 1 - 2**-53, 1.0])
def test_a_class_is_swapped_for_the_same_rank(u: float) -> None:
    images = nested()
    classes = (np.arange(3) + 0.5) / 3
    for partition_u, sizes in ((0.1, SIZES[0]), (0.9, SIZES[1])):
        drawn = {"partition_u": np.array(partition_u), "class_u": classes, "image_u": np.array(u)}
        ranks = [place(images)[image][2] for image in images.images(drawn).tolist()]
        assert ranks == [min(int(u * n), n - 1) for n in sizes]


@pytest.mark.parametrize(
    ("listed", "inputs"),
    [
        (("partition", "class", "image"), [["partition_u"], ["class_u"], ["image_u"]]),
        (("image", "class"), [["partition_u", "class_u"], ["image_u"]]),
        (("partition", "image"), [["partition_u"], ["class_u", "image_u"]]),
        (("image",), [["partition_u", "class_u", "image_u"]]),
        (("class",), [["partition_u", "class_u"]]),
    ],
)
def test_levels_that_are_not_listed_go_with_the_next_one_below(listed: tuple[str, ...], inputs: list) -> None:
    factors = nested().factors(listed)
    assert [factor.name for factor in factors] == [level for level in LEVELS if level in listed]
    assert [[item.name for item in factor.inputs] for factor in factors] == inputs


def test_levels_with_one_member_take_no_input() -> None:
    (image,) = nested(((5,),)).factors(["image"])
    assert [item.name for item in image.inputs] == ["image_u"]


@pytest.mark.parametrize("walks", [False, True])
@pytest.mark.parametrize("listed", [LEVELS, ("class", "image"), ("class",), ("partition", "class")])
def test_rows_are_reused_where_they_show_the_same(listed: tuple[str, ...], walks: bool) -> None:
    shown = design(nested(), *listed, others=(ON,), walks=walks).presentations(0, 256)
    for row, other in itertools.combinations(range(len(shown.roles)), 2):
        same = (shown.image[:, row] == shown.image[:, other]) & (
            shown.values["on"][:, row] == shown.values["on"][:, other]
        )
        np.testing.assert_array_equal(shown.source[:, row] == shown.source[:, other], same)
    assert (~shown.is_run).any()


def test_a_rank_that_is_no_factor_is_one_per_base_sample() -> None:
    images = nested(((4, 4, 4),))
    shown = design(images, "class").presentations(0, 64)
    ranks = np.vectorize(lambda image: place(images)[image][2])(shown.image)
    np.testing.assert_array_equal(ranks, np.broadcast_to(ranks[:, :1], ranks.shape))
    # classes of equal size: each rank in every cycle
    np.testing.assert_array_equal(np.bincount(ranks[:, 0]), [16] * 4)
    np.testing.assert_array_equal(design(images, "class").presentations(17, 40).image, shown.image[17:40])


class Separable:
    """y = g(partition, class) + h(image) + x, and its indices over the whole finite set of images.

    All levels are functions of independent numbers, so that the parts of the variance are sums over a fine grid.
    """

    def __init__(self, images: NestedImages, n_units: int = 3) -> None:
        rng = np.random.default_rng(5)
        self.images = images
        of = place(images)
        self.h = rng.normal(size=(len(of), n_units))
        g = 2 * rng.normal(size=(len(images.members), 3, n_units))
        self.g = np.stack([g[of[image][:2]] for image in sorted(of)])

    def respond(self, rows: Presentations) -> np.ndarray:
        return self.g[rows.image] + self.h[rows.image] + rows.values["x"][..., None]

    def table(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Response (partition, class, rank, unit) without x over the least common grid, and the grid's weights."""
        p_weights = np.array(self.images.weights) / np.sum(self.images.weights)
        ranks = np.lcm.reduce([len(members) for classes in self.images.members for members in classes])
        u = (np.arange(ranks) + 0.5) / ranks
        edges = np.concatenate([[0], np.cumsum(p_weights)])
        classes = (np.arange(3) + 0.5) / 3
        axes = (edges[:-1] + edges[1:]) / 2, classes, u
        grid = dict(zip((f"{level}_u" for level in LEVELS), np.meshgrid(*axes, indexing="ij"), strict=True))
        image = self.images.images(grid)
        return (self.g + self.h)[image], [p_weights, np.full(3, 1 / 3), np.full(ranks, 1 / ranks)]

    def indices(self, groups: list[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
        """First and total index of x and then of groups of levels."""
        y, weights = self.table()

        def variance_of_mean(kept: tuple[int, ...]) -> np.ndarray:
            mean = y
            for axis in range(3):
                if axis not in kept:
                    mean = np.moveaxis(np.moveaxis(mean, axis, -1) @ weights[axis][:, None], -1, axis)
            weight = weights[0][:, None, None, None] * weights[1][:, None, None] * weights[2][:, None]
            return (weight * (mean - (weight * mean).sum((0, 1, 2))) ** 2).sum((0, 1, 2))

        total = variance_of_mean((0, 1, 2)) + 1
        first = [variance_of_mean(group) / total for group in groups]
        others = [tuple({0, 1, 2} - {*group}) for group in groups]
        return (
            np.stack([1 / total, *first]),
            np.stack([1 / total, *(1 - (variance_of_mean(other) + 1) / total for other in others)]),
        )


@pytest.mark.parametrize(
    ("listed", "groups"),
    [
        (LEVELS, [(0,), (1,), (2,)]),
        (("class", "image"), [(0, 1), (2,)]),
        (("partition", "image"), [(0,), (1, 2)]),
        (("image",), [(0, 1, 2)]),
    ],
)
def test_indices_of_levels_are_those_of_the_finite_set(listed: tuple[str, ...], groups: list) -> None:
    separable = Separable(nested())
    rows = design(separable.images, *listed, scramble=1024)
    terms = DifferenceTerms(len(rows.factors))
    found = finalize(stream_design(rows, separable.respond, 1 << 15, 1024, terms), terms)
    first, total = separable.indices(groups)
    for name, exact in (("first_order", first), ("total_order", total)):
        error = np.maximum(found[f"{name}_se"], 1e-4)
        assert np.abs(found[name] - exact).max() < 0.03
        assert (np.abs(found[name] - exact) < 5 * error).all(), name


def test_indices_of_a_class_with_frozen_ranks() -> None:
    # equal sizes: one rank per base sample, so that variances are means over the ranks
    separable = Separable(nested(((4, 4, 4),)))
    rows = design(separable.images, "class", scramble=1024)
    terms = DifferenceTerms(2)
    found = finalize(stream_design(rows, separable.respond, 1 << 14, 1024, terms), terms)
    y = (separable.g + separable.h).reshape(3, 4, -1)
    by_class = y.var(0).mean(0)
    exact = np.stack([1 / (1 + by_class), by_class / (1 + by_class)])
    np.testing.assert_allclose(found["first_order"], exact, atol=0.02)
    np.testing.assert_allclose(found["total_order"], exact, atol=0.02)
