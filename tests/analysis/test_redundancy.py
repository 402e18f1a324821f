"""The curve of removal on a network in which it is known what is redundant."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from neuroprobe.analysis.redundancy import redundancy
from neuroprobe.errors import ReaderError, UnknownNameError

N_IMAGES = 40


def doubled() -> nn.Module:
    """Eight channels that come in pairs of copies, and one class for each pair, by the sum of both."""
    network = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4, bias=False))
    network = network.double().eval().requires_grad_(False)
    tunings = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.4, 0.4, 0.4]], dtype=torch.float64)
    network[0].weight.copy_(tunings.repeat_interleave(2, 0)[..., None, None])
    network[3].weight.copy_(torch.eye(4, dtype=torch.float64).repeat_interleave(2, 1) * 30)
    return network


@pytest.fixture
def batches(rng: np.random.Generator) -> list[tuple[torch.Tensor, torch.Tensor]]:
    images = torch.from_numpy(rng.random((N_IMAGES, 3, 1, 1)))
    network = doubled()
    return [(part, network(part).argmax(1)) for part in images.split(16)]


SIMILARITY = xr.DataArray(
    np.kron(np.eye(4), np.ones((2, 2))) * 0.9 + 0.1 * np.eye(8) + 0.01 * np.arange(8) / 8 * (1 - np.eye(8)),
    dims=("channel", "channel_2"),
)


def test_copies_that_are_added_to_each_other_are_not_missed(batches) -> None:
    shares = np.arange(9) / 8
    found = redundancy(
        doubled(), "1", iter(batches), SIMILARITY, norm=np.arange(8.0), shares=shares, n_random=4, seed=3
    )
    assert found.sizes == {"order": 6, "removal": 2, "removed_share": 9, "rank": 8}
    assert list(found["order"].values) == ["similarity", "low_norm", *(f"random_{n}" for n in range(4))]
    assert found.attrs == {"layer": "1", "n_images": N_IMAGES, "n_random": 4, "seed": 3}
    assert (np.sort(found["removed"]) == np.arange(8)).all()
    assert found["removed"].sel(order="low_norm").values.tolist() == list(range(8))
    # one of each pair goes first, and nothing is lost where it is added to the other
    first = found["removed"].sel(order="similarity").values[:4]
    assert sorted(first // 2) == [0, 1, 2, 3]
    added = found.sel(order="similarity", removal="add")
    np.testing.assert_allclose(added["loss_change"][:5], 0, atol=1e-12)
    assert (added["accuracy"][:5] == 1).all()
    assert float(abs(found["loss_change"].sel(order="similarity", removal="zero")[1:5]).min()) > 1e-3
    assert abs(float(added["loss_change"][6])) > 1e-3
    # all orders begin and end alike
    for step, loss in ((0, None), (8, np.log(4))):
        losses = found["loss"].isel(removed_share=step)
        assert np.ptp(losses.values) < 1e-12
        assert loss is None or float(losses[0, 0]) == pytest.approx(loss)
        assert (found["p_value"].isel(removed_share=step) == 1).all()
    # random orders take both of a pair
    assert float(found["random_mean_accuracy"].sel(removal="add", removed_share=0.5)) < 1
    for removal, step in np.ndindex(2, 9):
        own, *drawn = found["loss"].isel(removal=removal, removed_share=step, order=[0, 2, 3, 4, 5]).values
        p = (1 + sum(one <= own for one in drawn)) / 5
        assert float(found["p_value"][removal, step]) == pytest.approx(p)
    drawn = found["loss_change"].isel(order=slice(2, None))
    np.testing.assert_allclose(found["random_mean_loss_change"], drawn.mean("order"))
    np.testing.assert_allclose(found["random_deviation_loss_change"], drawn.std("order", ddof=1), atol=1e-12)
    assert ((found["accuracy_lower"] <= found["accuracy"]) & (found["accuracy"] <= found["accuracy_upper"])).all()
    assert all(array.attrs["long_name"] for array in found.data_vars.values())


def test_orders_are_functions_of_the_seed_and_no_controls_are_needed(batches) -> None:
    given = {"similarity": SIMILARITY.values, "shares": [0.5]}
    some, more = (redundancy(doubled(), "1", batches, n_random=n, **given) for n in (2, 3))
    xr.testing.assert_equal(some["loss"], more["loss"].isel(order=slice(3)))
    other = redundancy(doubled(), "1", batches, n_random=2, seed=1, **given)
    assert (other["removed"] != some["removed"]).any()
    alone = redundancy(doubled(), "1", batches, n_random=0, **given)
    assert list(alone["order"].values) == ["similarity"]
    assert not {"p_value", "random_mean_loss"} & set(alone)
    single = redundancy(doubled(), "1", batches, n_random=1, **given)
    assert single["random_deviation_loss"].isnull().all()


def test_channels_without_a_similarity_go_last(batches) -> None:
    similarity = SIMILARITY.values.copy()
    similarity[2], similarity[:, 2] = np.nan, np.nan
    found = redundancy(doubled(), "1", batches, similarity, n_random=2)
    assert found["removed"].sel(order="similarity").values[-1] == 2
    assert np.isfinite(found["loss"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"similarity": np.ones((3, 4))}, r"similarity: received \(3, 4\), expected \(channels, channels\)"),
        ({"norm": np.ones(3)}, r"norm: received \(3,\), expected one for each of 8 channels"),
        ({"n_random": -1}, "n_random: received -1, expected 0 or more"),
        ({"shares": [2]}, r"shares: shares of removed channels are in \[0, 1\], received \[2"),
    ],
)
def test_what_does_not_fit(options: dict, message: str, batches) -> None:
    with pytest.raises(ReaderError, match=message):
        redundancy(doubled(), "1", batches, **{"similarity": SIMILARITY, **options})


def test_an_unknown_layer(batches) -> None:
    with pytest.raises(UnknownNameError, match="unknown layer"):
        redundancy(doubled(), "9", batches, SIMILARITY)
