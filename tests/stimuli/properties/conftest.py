from __future__ import annotations

from collections.abc import Iterator

import pytest
from torch import Tensor

from altering import photographs, random_images
from neuroprobe.stimuli.properties import MANIPULATIONS


@pytest.fixture(params=["random", "photographs", "random, wide", "photographs, tall", "random, small"])
def crops(request: pytest.FixtureRequest) -> Tensor:
    sizes = {"wide": (11, 17), "tall": (40, 25), "small": (3, 3)}
    height, width = sizes.get(request.param.split(", ")[-1], (24, 24))
    return random_images(height, width) if "random" in request.param else photographs(height, width)


@pytest.fixture
def own_manipulations() -> Iterator[None]:
    """Take the manipulations that a test registers out of the registry again."""
    before = set(MANIPULATIONS._known)
    yield
    for name in set(MANIPULATIONS._known) - before:
        MANIPULATIONS._known.pop(name)
