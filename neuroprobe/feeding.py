"""Images for forward passes, in their order: decoded when they are asked for or, beside a GPU, one batch ahead.

Alterations are made on the device itself, by the process that presents: see `neuroprobe.stimuli.treatment`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuroprobe.design.pick_freeze import Presentations
from neuroprobe.packing import Pack
from neuroprobe.stimuli.images import ImageSet

T = TypeVar("T")
END: Final = object()


@dataclass(frozen=True)
class Piece:
    """Base samples that are packed together.

    Attributes
    ----------
    start : int
        Number of the first.
    presentations : Presentations
    packs : tuple of Pack
    """

    start: int
    presentations: Presentations
    packs: tuple[Pack, ...]

    def images(self, batch: int) -> Iterator[NDArray[np.int64]]:
        """Numbers of the images of each forward pass."""
        for pack in self.packs:
            shown = self.presentations.image[pack.sample, pack.row]
            for start in range(0, len(shown), batch):
                yield shown[start : start + batch]


@dataclass(frozen=True)
class Fed:
    """Images of a forward pass, and the piece that begins with it, if one does.

    Attributes
    ----------
    images : Tensor (n, 3, height, width)
        On the device.
    number : int array (n,)
        Of each in the set of images.
    piece : Piece or None
    copied : torch.cuda.Event or None
        When they are there; None where they are already.
    """

    images: Tensor
    number: NDArray[np.int64]
    piece: Piece | None
    copied: torch.cuda.Event | None = None

    def take(self) -> Tensor:
        """Return the images, which all that is asked of the device from now on waits for."""
        if self.copied is not None:
            stream = torch.cuda.current_stream(self.images.device)
            stream.wait_event(self.copied)
            # their memory is given to others once this stream is done with it
            self.images.record_stream(stream)
        return self.images


def feed(pieces: Iterator[Piece], images: ImageSet, batch: int, device: torch.device) -> Iterator[Fed]:
    """Decode the images of one forward pass after the other, and bring them to the device.

    To CUDA they are copied beside what it computes.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    for piece in pieces:
        begins: Piece | None = piece
        for number in piece.images(batch):
            loaded = images.load(number)
            if stream is None:
                yield Fed(loaded.to(device), number, begins)
            else:
                with torch.cuda.stream(stream):
                    there = loaded.pin_memory().to(device, non_blocking=True)
                yield Fed(there, number, begins, stream.record_event())
            begins = None


class Ahead(Generic[T]):
    """What an iterator gives, the next of it made in a thread meanwhile; a context that ends the thread.

    Parameters
    ----------
    given : iterator
        It runs in that thread; what it raises is raised where its turn is.

    Examples
    --------
    >>> with Ahead(iter("abc")) as given:
    ...     print(*given)
    a b c
    """

    def __init__(self, given: Iterator[T]) -> None:
        self._given = given
        # torch keeps the number of threads for each thread
        self._pool = ThreadPoolExecutor(1, "images", torch.set_num_threads, (torch.get_num_threads(),))
        self._next: Future[T | object] = self._pool.submit(next, given, END)

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __iter__(self) -> Ahead[T]:
        return self

    def __next__(self) -> T:
        found = self._next.result()
        if found is END:
            raise StopIteration
        self._next = self._pool.submit(next, self._given, END)
        return found  # type: ignore[return-value]


@contextmanager
def fed(start: Callable[[], Iterator[Fed]], *, ahead: bool) -> Iterator[Iterator[Fed]]:
    """Give out what `start` feeds, one ahead or when it is asked for."""
    if not ahead:
        yield start()
        return
    with Ahead(start()) as given:
        yield given
