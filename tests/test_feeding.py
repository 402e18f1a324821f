"""Images that are decoded a batch ahead: the same numbers, and errors where they belong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import neuroprobe as npr
from cluster_runs import SELECTIVITY, protocol
from neuroprobe.errors import ImageError
from neuroprobe.feeding import Ahead
from neuroprobe.planner import make_plan
from neuroprobe.recorder import BlockRecorder
from neuroprobe.rig import open_rig
from neuroprobe.shards import make_recorder
from neuroprobe.statistics.tree import Span
from neuroprobe.stimuli.images import ImageSet

pytestmark = pytest.mark.filterwarnings("ignore:.*(standard errors|upper bound|accuracies are left out):UserWarning")
NO_STORE = {"batch": 48, "device": "cpu"}
# one base sample in several passes too
ANALYSES: dict[str, dict[str, Any]] = {
    "sobol": {"analyses": ["sobol", "shapley"]},
    "several passes": {"analyses": ["sobol"], "record": {"batch": 5, "device": "cpu"}, "design": {"samples": 64}},
    "contrast": {"analyses": [{"contrast": {"draws": 2}}]},
    "selectivity": {"analyses": [SELECTIVITY]},
}


def recorder(name: str, ahead: bool) -> BlockRecorder:
    rig = open_rig(npr.load_protocol(protocol(**{"record": NO_STORE, **ANALYSES[name]})))
    found = make_recorder(rig, make_plan(rig))
    assert not found.feeds_ahead  # on a CPU
    found.feeds_ahead = ahead
    return found


def arrays(name: str, ahead: bool) -> dict[str, torch.Tensor]:
    one = recorder(name, ahead)
    with one.attached():
        states = [one.record_span(span) for span in (Span(0, 1), Span(1, 2)) if span.stop <= one.plan.n_blocks]
    return {
        f"{number}/{key}/{part}": array
        for number, found in enumerate(states)
        for key, sums in found.items()
        for part, array in sums.state().items()
    }


@pytest.mark.parametrize("name", ANALYSES)
def test_numbers_do_not_depend_on_it(name: str) -> None:
    one, other = arrays(name, True), arrays(name, False)
    assert one.keys() == other.keys()
    for key, array in one.items():
        assert array.numpy().tobytes() == other[key].numpy().tobytes(), key


def test_images_are_decoded_in_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    load = ImageSet.load

    def noted(self: ImageSet, index: Any) -> torch.Tensor:
        threads.append(threading.current_thread().name)
        return load(self, index)

    one = recorder("sobol", True)
    monkeypatch.setattr(ImageSet, "load", noted)
    with one.attached():
        one.record_span(Span(0, 2))
    assert len(threads) > 2
    assert {name.split("_")[0] for name in threads} == {"images"}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]


def test_an_image_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is that of the run, with its cause, and the thread ends."""
    one, cause = recorder("sobol", True), OSError("the disk is away")

    def load(self: ImageSet, index: Any) -> torch.Tensor:
        raise ImageError("image 'a.png' cannot be decoded: the disk is away") from cause

    with one.attached():
        before = one.record_span(Span(0, 1))
        with monkeypatch.context() as patch:
            patch.setattr(ImageSet, "load", load)
            with pytest.raises(ImageError, match=r"'a\.png' cannot be decoded") as caught:
                one.record_span(Span(0, 1))
        assert caught.value.__cause__ is cause
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]
        # and it can be tried again
        after = one.record_span(Span(0, 1))
    for key, sums in before.items():
        np.testing.assert_array_equal(after[key].total, sums.total)


def test_one_is_made_ahead_and_no_more() -> None:
    made: list[int] = []
    waiting = threading.Semaphore(0)

    def numbers() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            waiting.release()
            yield number

    with Ahead(numbers()) as given:
        assert waiting.acquire(timeout=30)
        assert made == [0]
        for number in range(3):
            assert next(given) == number
            assert waiting.acquire(timeout=30)
            assert made == list(range(number + 2))
    assert made == [0, 1, 2, 3]
