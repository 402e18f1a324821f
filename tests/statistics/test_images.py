"""What the image is in a design: frozen, replicated, or a factor; separable units whose indices are known."""

import numpy as np
import pytest
from scipy import stats

from neuroprobe import names
from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.pick_freeze import ImageGroups, PickFreeze
from neuroprobe.statistics.estimators import DifferenceTerms, SaltelliTerms
from neuroprobe.statistics.indices import finalize
from oracles import SeparableImages, stream_design

UPPER = np.triu_indices(2, 1)
N_UNITS = 200


def frozen(units: SeparableImages, samples: int, scramble: int, seed: int, *, replicate: bool = False) -> dict:
    groups = ImageGroups(scramble, samples // scramble) if replicate else None
    design = PickFreeze(units.factors, seed, len(units.m), True, scramble, groups=groups)
    terms = DifferenceTerms(2)
    return finalize(stream_design(design, units.respond, samples, scramble, terms), terms) | {
        "df": np.array(samples // scramble - 1)
    }


def covered(found: dict, truth: dict, name: str) -> np.ndarray:
    value, error = found[name], found[names.se(name)]
    if name == names.SECOND_ORDER:
        value, error = value[UPPER][0], error[UPPER][0]
    return np.abs(value - truth[name]) <= stats.t.ppf(0.975, found["df"]) * error


@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("replicate", [True, False])
def test_frozen_images_give_ratios_of_means_over_images(replicate: bool, second_order: bool) -> None:
    units = SeparableImages(64, N_UNITS, 0)
    groups = ImageGroups(256, 64) if replicate else None
    design = PickFreeze(units.factors, 0, 64, second_order, 256, groups=groups)
    terms = DifferenceTerms(2, second_order)
    found = finalize(stream_design(design, units.respond, 1 << 14, 256, terms), terms)
    truth = units.within()
    for name in (names.FIRST_ORDER, names.TOTAL_ORDER, names.SECOND_ORDER)[: 3 if second_order else 2]:
        value, error = found[name], found[names.se(name)]
        if name == names.SECOND_ORDER:
            value, error = value[UPPER][0], error[UPPER][0]
        assert (np.abs(value - truth[name]) <= 5.5 * error + 1e-9).all()
        assert np.median(error) < 0.05


@pytest.mark.parametrize(("n_images", "samples", "scramble"), [(64, 1024, 64), (64, 4096, 128), (256, 4096, 256)])
def test_coverage_for_these_images(n_images: int, samples: int, scramble: int) -> None:
    """Intervals of the standard errors of frozen images hold for the images that were shown."""
    hits = []
    for seed in range(12):
        units = SeparableImages(n_images, N_UNITS, seed)
        found = frozen(units, samples, scramble, seed)
        hits.append([covered(found, units.within(), name).mean() for name in (names.FIRST_ORDER, names.TOTAL_ORDER)])
    assert 0.93 <= np.mean(hits) <= 0.97


@pytest.mark.parametrize(("n_images", "samples", "scramble"), [(64, 4096, 256), (256, 4096, 64), (500, 4096, 128)])
def test_coverage_for_new_images(n_images: int, samples: int, scramble: int) -> None:
    """With ``replicate: image`` they hold for the law that the images were drawn from, where the others do not."""
    hits, without = [], []
    for seed in range(12):
        units = SeparableImages(n_images, N_UNITS, seed)
        truth = units.within(new_images=True)
        for replicate, into in ((True, hits), (False, without)):
            found = frozen(units, samples, scramble, seed, replicate=replicate)
            into.append([covered(found, truth, name).mean() for name in (names.FIRST_ORDER, names.TOTAL_ORDER)])
    assert 0.93 <= np.mean(hits) <= 0.97
    assert np.mean(without) < 0.88


@pytest.mark.parametrize("estimator", [DifferenceTerms, SaltelliTerms])
def test_image_as_a_factor(estimator: type) -> None:
    """Effects that all images share, and those of single images, are told apart."""
    units = SeparableImages(32, N_UNITS, 1)
    image = Factor(names.IMAGE, (Input(names.IMAGE, Law("integers", (0, 31))),))
    design = PickFreeze((*units.factors, image), 0, 32, True, 1024)
    terms = estimator(3)
    found, truth = finalize(stream_design(design, units.respond, 1 << 14, 1024, terms), terms), units.with_image()
    for name in (names.FIRST_ORDER, names.TOTAL_ORDER, names.SECOND_ORDER):
        value, error = found[name], found[names.se(name)]
        if name == names.SECOND_ORDER:
            value, error = value[np.triu_indices(3, 1)], error[np.triu_indices(3, 1)]
        # t with 15 degrees of freedom: one in 10⁶ is beyond 7.8
        assert (np.abs(value - truth[name]) <= 8 * error + 1e-9).all()
        assert (np.abs(value - truth[name]) <= stats.t.ppf(0.975, 15) * error).mean() > 0.9


LAWS = [
    Law("uniform", (-1, 3)),
    Law("loguniform", (0.1, 5)),
    Law("normal", (2, 0.7)),
    Law("truncated_normal", (0, 1, -0.5, 2)),
    Law("beta", (2, 5)),
    Law("beta", (0.5, 0.5, -2, 4)),
    Law("choice", (1, 2, 10), (0.5, 0.3, 0.2)),
    Law("integers", (-2, 4)),
    Law("bernoulli", (0.3,)),
]


def variance_of(law: Law) -> float:
    """Variance by scipy's own distributions."""
    arguments = law.arguments
    match law.kind:
        case "uniform":
            return float(stats.uniform(arguments[0], arguments[1] - arguments[0]).var())
        case "loguniform":
            return float(stats.loguniform(*arguments).var())
        case "normal":
            return float(stats.norm(*arguments).var())
        case "truncated_normal":
            mean, sd, low, high = arguments
            return float(stats.truncnorm((low - mean) / sd, (high - mean) / sd, mean, sd).var())
        case "beta":
            low, high = arguments[2:] or (0, 1)
            return float(stats.beta(*arguments[:2], loc=low, scale=high - low).var())
        case "choice":
            return float(stats.rv_discrete(values=(arguments, law.weights)).var())
        case "integers":
            return float(stats.randint(arguments[0], arguments[1] + 1).var())
        case _:
            return float(stats.bernoulli(*arguments).var())


@pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{law.kind}{law.arguments}")
def test_every_law_against_the_variance_of_a_sum(law: Law) -> None:
    """Y = x1 + x2, x1 of the law and x2 uniform with the same variance: each explains half of the variance."""
    half_width = (3 * variance_of(law)) ** 0.5
    factors = (
        Factor("x1", (Input("x1", law),)),
        Factor("x2", (Input("x2", Law("uniform", (-half_width, half_width))),)),
    )
    design = PickFreeze(factors, 0, 1, True, 256)
    terms = DifferenceTerms(2)
    sums = stream_design(design, lambda rows: rows.values["x1"] + rows.values["x2"], 4096, 256, terms)
    found = finalize(sums, terms)
    for name in (names.FIRST_ORDER, names.TOTAL_ORDER):
        np.testing.assert_array_less(np.abs(found[name][:, 0] - 0.5), 6 * found[names.se(name)][:, 0] + 1e-9)
    assert found[names.VARIANCE][0] == pytest.approx(2 * variance_of(law), rel=0.02)


def test_an_image_redrawn_for_every_row_is_credited_to_every_factor() -> None:
    """A factor without effect gets the image's share of the variance, 11/12 here, and exactly 0 of frozen images."""
    law = Law("uniform", (-1, 1))  # of variance 1/3
    factors = tuple(Factor(name, (Input(name, law),)) for name in ("effect", "none"))
    level = np.sqrt(11 / 3) * np.array([-1.0, 1.0])  # of the images

    def respond(rows):
        return level[rows.image] + rows.values["effect"]

    terms, samples = DifferenceTerms(2), 1 << 14
    for redrawn, expected in ((True, [1.0, 11 / 12]), (False, [1.0, 0.0])):
        design = PickFreeze(factors, 0, 2, True, samples // 16, redrawn=redrawn)
        found = finalize(stream_design(design, respond, samples, samples // 16, terms), terms)
        value, error = found[names.TOTAL_ORDER][:, 0], found[names.se(names.TOTAL_ORDER)][:, 0]
        assert (np.abs(value - expected) <= stats.t.ppf(1 - 1e-6, 15) * error + 1e-12).all()
        assert redrawn or value[1] == 0
        assert (error < 0.05).all()
