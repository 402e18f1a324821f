from __future__ import annotations

import io
import os

# read by the maths libraries when they are loaded: tests run beside each other, one core each
os.environ["OMP_NUM_THREADS"] = "1"
# torch.compile would ask another process for each kind of vector instruction, torch and all, in every process of tests;
# where a compiler lacks one, compilation fails, and the tests of what is compiled are skipped
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image

from neuroprobe.stimuli.alterations import ALTERATIONS
from neuroprobe.stimuli.folders import open_folder
from neuroprobe.stimuli.images import ImageSet

torch.set_num_threads(1)
# a deadline would make a slow machine fail
hypothesis.settings.register_profile("neuroprobe", derandomize="CI" in os.environ, deadline=None, max_examples=50)
hypothesis.settings.load_profile("neuroprobe")

CHECKOUT = Path(__file__).parents[1]


def _own_addresses() -> set[str | None]:
    """Names and addresses of this machine."""
    own = {None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", "::", socket.gethostname()}
    try:
        return own | {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
    except OSError:
        # a machine that cannot look up its own name
        return own


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Refuse every connection and look-up that leaves the machine, so that nothing is downloaded."""
    connect, getaddrinfo, local = socket.socket.connect, socket.getaddrinfo, _own_addresses()

    def local_connect(self: socket.socket, address: Any) -> None:
        # connecting a datagram socket sends nothing; dask finds the machine's own address that way
        is_stream = self.family in {socket.AF_INET, socket.AF_INET6} and not self.type & socket.SOCK_DGRAM
        if is_stream and address[0] not in local:
            raise OSError(f"tests have no network: connection to {address} refused")
        connect(self, address)

    def local_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if (host.decode() if isinstance(host, bytes) else host) not in local:
            raise socket.gaierror(f"tests have no network: look-up of {host!r} refused")
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        # a proxy on this machine would be a way out
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        patch.setattr(socket.socket, "connect", local_connect)
        patch.setattr(socket, "getaddrinfo", local_getaddrinfo)
        yield


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of recordings, images and weights made elsewhere."""
    folder = Path(os.environ.get("NEUROPROBE_DATA", CHECKOUT / ".." / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data: set NEUROPROBE_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def cifar_images(data: Path) -> ImageSet:
    """The 5000 labelled test images of CIFAR-10, at their own size."""
    return ImageSet(open_folder(data / "cifar10" / "test"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture
def image_folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Three class folders of eight random 32×32 images, PNG and JPEG in turn."""
    folder = tmp_path / "images"
    for label in ("cat", "dog", "ship"):
        (folder / label).mkdir(parents=True)
        for number in range(8):
            array = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            suffix = "jpg" if number % 2 else "png"
            Image.fromarray(array).save(folder / label / f"{number:02}.{suffix}")
    return folder


@pytest.fixture
def small_protocol(image_folder: Path) -> dict[str, Any]:
    """A protocol that runs in seconds: five alterations of random images, two layers of the embedded network."""
    return {
        "neuroprobe": 1,
        "seed": 7,
        "subject": {"network": "embedded", "layers": ["conv6", "linear"]},
        "stimuli": {"images": {"folder": str(image_folder)}},
        "treatment": {
            "alterations": [
                {"name": "erasing", "switch": 0.5},
                {"name": "grayscale", "switch": 0.5},
                {"name": "gaussian_blur", "switch": 0.5},
                {"name": "hue", "switch": 0.5},
                {"name": "rotation", "switch": 0.5},
            ],
        },
        "design": {"samples": 128},
        "record": {"device": "cpu"},
    }


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave pictures of reports blank, for tests of words and tables; others draw the same kinds."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    monkeypatch.setattr("neuroprobe.report.view.png", lambda element, dpi: (buffer.getvalue(), 8))


@pytest.fixture
def own_alterations() -> Iterator[None]:
    """Take the alterations that a test registers out of the registry again."""
    before = set(ALTERATIONS._known)
    yield
    for name in set(ALTERATIONS._known) - before:
        ALTERATIONS._known.pop(name)
