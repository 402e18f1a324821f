"""Precisions below float32: asked for by a protocol only, and what they add to total indices is told."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import neuroprobe as npr
from cluster_runs import SELECTIVITY, protocol
from neuroprobe import names
from neuroprobe.errors import PlanError, ProtocolError, StoreError
from neuroprobe.packing import packs
from neuroprobe.planner import make_plan
from neuroprobe.plans import Plans
from neuroprobe.probe.capture import Probe, find_sites
from neuroprobe.probe.precision import forward_precision, full_float32, require_precision
from neuroprobe.protocol.subject import LayerSpec
from neuroprobe.rig import open_rig
from neuroprobe.rounding import N_PACKS, dummy_indices

pytestmark = pytest.mark.filterwarnings("ignore:.*(standard errors|upper bound):UserWarning")


def given(precision: str = "bfloat16", **changes: Any) -> dict[str, Any]:
    return protocol(
        **{"record": {"batch": 64, "device": "cpu", "precision": precision}, "analyses": ["sobol"], **changes}
    )


def test_the_index_of_a_factor_without_effect() -> None:
    """It is the variance of rounding errors over that of responses, as formulas on all responses at once have it."""
    rig = open_rig(npr.load_protocol(given()))
    plan = make_plan(rig)
    found = dummy_indices(rig, plan)
    shown = rig.design(plan.layout.scramble).presentations(0, 64)
    exact: dict[str, list[np.ndarray]] = {site.name: [] for site in rig.sites}
    rounded: dict[str, list[np.ndarray]] = {site.name: [] for site in rig.sites}
    for _, pack in zip(range(N_PACKS), packs(shown, plan.layout.batch), strict=False):
        images = rig.subject.prepare(rig.treatment.stimuli(rig.images, shown, pack.sample, pack.row))
        for into, precision in ((exact, "float32"), (rounded, "bfloat16")):
            with Probe(rig.subject.network, rig.sites) as probe, forward_precision(precision, rig.device):
                probe.record(images, lambda site, y, into=into: into[site.name].append(y.flatten(1).double().numpy()))
    for layer, one in found.items():
        y, error = np.concatenate(exact[layer]), np.concatenate(rounded[layer]) - np.concatenate(exact[layer])
        varies = y.var(0) > 0
        shares = error.var(0)[varies] / y.var(0)[varies]
        np.testing.assert_allclose([one.median, one.largest], [np.median(shares), shares.max()], rtol=1e-6)
        # bfloat16 keeps 8 bits
        assert 1e-6 < one.median < 1e-2


def test_float32_adds_nothing() -> None:
    rig = open_rig(npr.load_protocol(given("float32")))
    assert {(one.median, one.largest) for one in dummy_indices(rig, make_plan(rig)).values()} == {(0.0, 0.0)}


def test_it_is_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"precision: bfloat16 rounds responses, and .* conv5 \S+ \(\S+\), linear"):
        found = npr.run(given(), tmp_path / "out.zarr", limit=128)
    details = json.loads(found.attrs[names.PROVENANCE])
    assert details["dtype"] == "bfloat16"
    assert [text for text in details["warnings"] if "a factor without effect" in text]
    exact = npr.run(given("float32"), tmp_path / "exact.zarr", limit=128)
    difference = np.abs(found["sobol/linear"]["total_order"] - exact["sobol/linear"]["total_order"]).max()
    assert 0 < float(difference) < 0.05
    planned = npr.plan(given())
    assert isinstance(planned, Plans)
    assert any("bfloat16 rounds" in text for text in planned.warnings)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert not any("rounds" in text for text in npr.plan(given("float32")).warnings)  # type: ignore[union-attr]


def test_a_store_keeps_its_precision(tmp_path: Path) -> None:
    npr.run(given("float32"), tmp_path / "out.zarr", limit=64)
    with pytest.raises(StoreError, match="was written by another protocol"):
        npr.run(given("bfloat16"), tmp_path / "out.zarr", limit=64)


def test_responses_are_float32_to_whoever_takes_them() -> None:
    """The network rounds; what is made of its responses does not."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Linear(4, 3))
    image = torch.rand(5, 3, 2, 2)
    specs = [LayerSpec(name="1"), LayerSpec(name="2", transform="softmax")]
    found: dict[str, torch.Tensor] = {}

    def take(site: Any, y: torch.Tensor) -> None:
        found[site.name] = y
        assert (y.flatten(1).T @ y.flatten(1)).dtype == torch.float32

    with Probe(network, find_sites(network, specs, image[:1]), precision="bfloat16") as probe:
        probe.record(image, take)
    assert found["1"].dtype == torch.float32
    assert torch.equal(found["1"], found["1"].bfloat16().float())
    torch.testing.assert_close(found["2"].sum(1), torch.ones(5), rtol=0, atol=1e-6)


def test_tf32_is_on_within_only() -> None:
    """In the forward pass, and not in statistics."""
    seen: list[bool] = []

    class Looks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(torch.backends.cudnn.allow_tf32)
            return x.flatten(1)

    network = nn.Sequential(Looks())
    sites = find_sites(network, [LayerSpec(name="0")], torch.rand(1, 3, 2, 2))
    for precision in ("tf32", "float32"):
        seen.clear()
        with full_float32(), Probe(network, sites, precision=precision) as probe:
            probe.record(torch.rand(2, 3, 2, 2), lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
        assert seen == [precision == "tf32", False]


def test_what_is_refused() -> None:
    with pytest.raises(ProtocolError, match=r"record\.precision: .* expected 'float32', 'tf32' or 'bfloat16'"):
        npr.load_protocol(given("float16"))
    with pytest.raises(ProtocolError, match="bfloat16 does not go with selectivity, whose networks run in float32"):
        npr.load_protocol(given(analyses=[SELECTIVITY]))
    with pytest.raises(PlanError, match="precision: tf32 is one of CUDA devices, and this run is on cpu"):
        open_rig(npr.load_protocol(given("tf32")))


def test_devices_that_do_not_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    for precision in ("tf32", "bfloat16"):
        with pytest.raises(PlanError, match=rf"{precision} takes a CUDA device of compute capability 8.0 .* Tesla T4"):
            require_precision(precision, torch.device("cuda"))
    require_precision("float32", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    require_precision("tf32", torch.device("cuda"))
