"""The progress bar: it listens, and shows rate and time left."""

import io

import neuroprobe as npr
from neuroprobe.progress import BatchDone, Finished, ProgressBar, RunStarted, default_listener, ignore

PROTOCOL = {
    "neuroprobe": 1,
    "subject": {"network": "embedded", "layers": ["linear"]},
    "stimuli": {"images": {"photographs": {"per_image": 2}, "size": 16}},
    "treatment": {"alterations": [{"name": "hue", "switch": 0.5}]},
    "design": {"samples": 128},
}


def test_bar_counts_base_samples_from_where_the_run_goes_on() -> None:
    plan = npr.plan(PROTOCOL, measure=False)["pick-freeze"]
    screen = io.StringIO()
    bar = ProgressBar(screen)
    bar(RunStarted(plan, n_blocks_done=1))
    bar(BatchDone(64))
    bar(Finished())
    assert "128/128" in screen.getvalue()
    assert "sample/s" in screen.getvalue()
    assert "64/128" in screen.getvalue()


def test_silence_where_nobody_watches() -> None:
    assert default_listener() is ignore
    assert ignore(Finished()) is None
