import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neuroprobe.design.laws import SYNTAX, Law

# odd multiples of 2⁻³¹, as in the designs; their number is prime, so that none falls on the edge of a discrete value
CENTRES = (2 * np.linspace(0, 2**30 - 1, 997).astype(np.int64) + 1) * 2.0**-31

CONTINUOUS = {
    "uniform": (Law("uniform", (-10, 10)), stats.uniform(-10, 20)),
    "loguniform": (Law("loguniform", (0.3, 3.3)), stats.loguniform(0.3, 3.3)),
    "normal": (Law("normal", (2, 0.5)), stats.norm(2, 0.5)),
    "truncated normal": (Law("truncated_normal", (1, 2, 0, 4)), stats.truncnorm(-0.5, 1.5, loc=1, scale=2)),
    "truncated normal, one side": (Law("truncated_normal", (0, 1, 3, 9)), stats.truncnorm(3, 9)),
    "beta": (Law("beta", (2, 5)), stats.beta(2, 5)),
    "beta between bounds": (Law("beta", (2, 5, -1, 3)), stats.beta(2, 5, loc=-1, scale=4)),
}

DISCRETE = {
    "integers": (Law("integers", (-2, 4)), stats.randint(-2, 5)),
    "one integer": (Law("integers", (3, 3)), stats.randint(3, 4)),
    "choice": (Law("choice", (1, 2, 4)), stats.rv_discrete(values=([1, 2, 4], [1 / 3] * 3))),
    "weighted choice": (Law("choice", (1, 2, 4), (2, 1, 1)), stats.rv_discrete(values=([1, 2, 4], [0.5, 0.25, 0.25]))),
    "choice with a weight of 0": (
        Law("choice", (1, 2, 4), (0, 3, 1)),
        stats.rv_discrete(values=([2, 4], [0.75, 0.25])),
    ),
}


@pytest.mark.parametrize(("law", "oracle"), CONTINUOUS.values(), ids=CONTINUOUS)
def test_ppf_of_continuous_laws_is_scipys(law, oracle):
    np.testing.assert_allclose(law.ppf(CENTRES), oracle.ppf(CENTRES), rtol=1e-12, atol=1e-12)
    assert law.support == pytest.approx(oracle.support())


@pytest.mark.parametrize(("law", "oracle"), DISCRETE.values(), ids=DISCRETE)
def test_ppf_of_discrete_laws_is_scipys(law, oracle):
    np.testing.assert_array_equal(law.ppf(CENTRES), oracle.ppf(CENTRES))


def test_choice_keeps_the_order_in_which_values_are_given():
    np.testing.assert_array_equal(Law("choice", (5, -1)).ppf([0.25, 0.75]), [5, -1])


@pytest.mark.parametrize("p", [0, 0.25, 0.5, 0.9, 1])
def test_bernoulli_is_on_for_a_share_p(p):
    u = (np.arange(1000) + 0.5) / 1000
    on = Law("bernoulli", (p,)).ppf(u)
    assert set(on) <= {0.0, 1.0}
    assert on.mean() == pytest.approx(p)


SUPPORTS = [
    (Law("constant", (3,)), (3, 3)),
    (Law("uniform", (1, 2)), (1, 2)),
    (Law("uniform", (2, 2)), (2, 2)),
    (Law("loguniform", (1, 2)), (1, 2)),
    (Law("normal", (1, 2)), (-np.inf, np.inf)),
    (Law("normal", (1, 0)), (1, 1)),
    (Law("truncated_normal", (0, 1, -1, 2)), (-1, 2)),
    (Law("truncated_normal", (0, 1, 2, 2)), (2, 2)),
    (Law("beta", (1, 2)), (0, 1)),
    (Law("beta", (1, 2, 3, 4)), (3, 4)),
    (Law("beta", (1, 2, 3, 3)), (3, 3)),
    (Law("integers", (0, 5)), (0, 5)),
    (Law("choice", (4, 1, 2)), (1, 4)),
    (Law("choice", (4, 4)), (4, 4)),
    (Law("bernoulli", (0.3,)), (0, 1)),
    (Law("bernoulli", (0,)), (0, 0)),
    (Law("bernoulli", (1,)), (1, 1)),
]


@pytest.mark.parametrize(("law", "support"), SUPPORTS, ids=lambda value: f"{value}")
def test_support_and_constant(law, support):
    assert law.support == support
    assert law.constant == (support[0] == support[1])


@pytest.mark.parametrize("law", [law for law, _ in SUPPORTS if law.constant], ids=lambda law: f"{law}")
def test_a_constant_law_gives_its_value_at_every_quantile(law):
    u = np.array([2.0**-31, 0.25, 0.5, 1 - 2.0**-31])
    np.testing.assert_array_equal(law.ppf(u), law.support[0])


REFUSED = [
    ("gaussian", (0, 1), (), ["unknown law 'gaussian'", "truncated_normal"]),
    ("uniform", (1,), (), ["uniform takes 2 numbers, received 1"]),
    ("beta", (1, 2, 3), (), ["beta takes 2 or 4 numbers, received 3"]),
    ("truncated_normal", (0, 1), (), ["truncated_normal takes 4 numbers, received 2"]),
    ("constant", (), (), ["constant takes 1 numbers, received 0"]),
    ("uniform", (0, float("inf")), (), ["uniform takes finite numbers", "inf"]),
    ("normal", (float("nan"), 1), (), ["normal takes finite numbers", "nan"]),
    ("bernoulli", (1.5,), (), ["between 0 and 1", "1.5"]),
    ("bernoulli", (-0.1,), (), ["between 0 and 1", "-0.1"]),
    ("normal", (0, -1), (), ["standard deviation of a normal law", "-1"]),
    ("truncated_normal", (0, 0, 1, 2), (), ["standard deviation of a truncated normal law is above 0", "0"]),
    ("truncated_normal", (0, 1, 2, -2), (), ["low is above high in truncated_normal: [2, -2]"]),
    ("beta", (0, 2), (), ["both shapes of a beta law are above 0", "[0, 2]"]),
    ("beta", (1, 2, 5, 4), (), ["low is above high in beta: [5, 4]"]),
    ("loguniform", (0, 1), (), ["log-uniform law lies above 0", "low = 0"]),
    ("loguniform", (2, 1), (), ["low is above high in loguniform: [2, 1]"]),
    ("uniform", (2, 1), (), ["low is above high in uniform: [2, 1]"]),
    ("integers", (0.5, 2), (), ["integers takes whole numbers", "0.5"]),
    ("integers", (3, 2), (), ["low is above high in integers: [3, 2]"]),
    ("choice", (), (), ["choice takes at least one value"]),
    ("choice", (1, 2), (1,), ["choice has 2 values and 1 weights"]),
    ("choice", (1, 2), (2, -1), ["weights are not negative", "[2, -1]"]),
    ("choice", (1, 2), (0, 0), ["sum to more than 0", "[0, 0]"]),
]


@pytest.mark.parametrize(("kind", "arguments", "weights", "fragments"), REFUSED)
def test_what_is_no_law_is_refused(kind, arguments, weights, fragments):
    with pytest.raises(ValueError, match=re.escape(fragments[0])) as caught:
        Law(kind, arguments, weights)
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["values", "weights"])
def test_choice_takes_finite_numbers(bad, where):
    values, weights = ((1.0, bad), ()) if where == "values" else ((1.0, 2.0), (1.0, bad))
    with pytest.raises(ValueError, match="finite"):
        Law("choice", values, weights)


def test_every_law_of_the_syntax_can_be_made():
    arguments = {"beta": (1, 2), "truncated_normal": (0, 1, 1, 2), "constant": (1,)}
    for kind in SYNTAX:
        low, high = Law(kind, arguments.get(kind, (1, 2))).support
        assert low <= high


@st.composite
def laws(draw):
    kind = draw(st.sampled_from([*SYNTAX, "bernoulli"]))
    number = st.floats(-1e3, 1e3)
    positive = st.floats(0.05, 20)
    low, width = draw(number), draw(positive)
    match kind:
        case "uniform":
            return Law(kind, (low, low + width))
        case "loguniform":
            low = draw(positive)
            return Law(kind, (low, low + width))
        case "normal":
            return Law(kind, (low, width))
        case "truncated_normal":
            return Law(kind, (low + draw(st.floats(-20, 20)), draw(positive), low, low + width))
        case "beta":
            return Law(kind, (draw(positive), draw(positive), low, low + width))
        case "integers":
            return Law(kind, (np.floor(low), np.floor(low) + draw(st.integers(0, 10**6))))
        case "bernoulli":
            return Law(kind, (draw(st.floats(0, 1)),))
        case "constant":
            return Law(kind, (low,))
    values = sorted(draw(st.lists(number, min_size=1, max_size=5)))
    weights = draw(st.lists(st.floats(0.01, 10), min_size=len(values), max_size=len(values)))
    return Law(kind, tuple(values), tuple(weights))


@settings(deadline=None)
@given(laws(), st.lists(st.integers(0, 2**30 - 1), min_size=1, max_size=20))
def test_ppf_is_monotone_and_within_the_support(law, steps):
    u = (2 * np.sort(np.array(steps)) + 1) * 2.0**-31
    values = law.ppf(u)
    low, high = law.support
    assert values.shape == u.shape
    assert values.dtype == np.float64
    assert np.all((values >= low) & (values <= high))
    # a switch is on at the low quantiles
    rises = np.diff(values) * (-1 if law.kind == "bernoulli" else 1)
    assert np.all(rises >= -1e-9 * max(1, np.abs(values).max()))


@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 3)])
@pytest.mark.parametrize("kind", ["uniform", "truncated_normal", "integers", "choice", "constant", "bernoulli"])
def test_ppf_takes_any_shape(kind, shape):
    arguments = {"truncated_normal": (0, 1, 1, 2), "constant": (1,), "bernoulli": (0.5,)}.get(kind, (1, 2))
    assert Law(kind, arguments).ppf(np.full(shape, 0.5)).shape == shape


def test_laws_are_frozen_values():
    assert Law("uniform", (0, 1)) == Law("uniform", (0.0, 1.0))
    assert len({Law("uniform", (0, 1)), Law("uniform", (0.0, 1.0)), Law("uniform", (0, 2))}) == 2
    with pytest.raises(AttributeError):
        Law("uniform", (0, 1)).kind = "normal"
