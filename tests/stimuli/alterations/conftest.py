import pytest
from torch import Tensor

from altering import photographs, random_images


@pytest.fixture(params=["random", "photographs", "random, wide", "photographs, tall"])
def images(request: pytest.FixtureRequest) -> Tensor:
    height, width = {"wide": (40, 56), "tall": (60, 44)}.get(request.param.split(", ")[-1], (48, 48))
    return random_images(height, width) if "random" in request.param else photographs(height, width)
