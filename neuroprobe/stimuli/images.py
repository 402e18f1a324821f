"""Sets of images: chosen from their sources, tried once, and decoded a batch at a time as float RGB in [0, 1]."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuroprobe import names
from neuroprobe.design.randomness import generator
from neuroprobe.design.repeated import BLANK
from neuroprobe.errors import ImageError, ReaderError, about, reason
from neuroprobe.stimuli.decoding import AS_IS, MID_GREY, Framing, Picture, as_rgb, size_of

CACHE_BYTES: Final = 256 << 20
N_THREADS: Final = min(8, os.cpu_count() or 1)
Item = tuple[int, int]  # number of the source, index of the image there


@dataclass(frozen=True)
class Source:
    """Where images come from, and which of them are taken.

    Attributes
    ----------
    where : str
        What messages call the place.
    ids : sequence of str
        Identity of each image, unique.
    labels : sequence of str or None, optional
        Class of each image; None where images have no classes.
    read : callable
        From an index to a picture; several threads may call it.
    content : callable, optional
        From an index to the bytes that are hashed; by default they are those of the decoded image.
    n_bytes : int
        Bytes that the source keeps in memory.
    name : str
        What stands before the ids where a set has several sources.
    limit : int, optional
        Number of images; of classes, the same number of each as far as it goes.
    shuffle : bool
        Whether images are taken at random rather than from the first one.
    skip_broken : bool
        Whether images that cannot be decoded are left out rather than refused.
    background : tuple of float
        RGB in [0, 1] behind transparent pixels.
    columns : dict of arrays (images,)
        What else a presentation table says of each image: numbers, or text (object).
    units : dict of str
        Of these columns.
    factors : tuple of str
        Those of them that were varied by design.
    """

    where: str
    ids: Sequence[str]
    labels: Sequence[str | None] | None
    read: Callable[[int], Picture]
    content: Callable[[int], bytes] | None = None
    n_bytes: int = 0
    name: str = ""
    limit: int | None = None
    shuffle: bool = False
    skip_broken: bool = False
    background: tuple[float, float, float] = MID_GREY
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    factors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tried:
    """What is known of images that were all decoded once.

    Attributes
    ----------
    digest : str
        Of the set.
    content : bytes
        Hashes of its images, one after the other.
    broken : tuple of str
        Ids of images that cannot be decoded, and were left out.
    """

    digest: str
    content: bytes
    broken: tuple[str, ...]

    @property
    def hashes(self) -> list[bytes]:
        """Hash of each image."""
        size = hashlib.sha256().digest_size
        return [self.content[start : start + size] for start in range(0, len(self.content), size)]


class ImageSet:
    """Images of one size, decoded when they are asked for.

    Every image is decoded once when the set is opened, so that what is broken is found before any work.

    Parameters
    ----------
    *sources : Source
    framing : Framing
    seed : int
        Of the order of sources that are shuffled.
    tried : Tried, optional
        What another process found of the same images: each is only decoded, and compared with it, when it is asked for.

    Attributes
    ----------
    ids : list of str
        Unique; of several sources, with the source's name in front (``name/id``).
    labels : list of str or None, optional
        Class of each image; None where images have no classes.
    sources : list of str, optional
        Name of each image's source; None where there is one source.
    skipped : list of str
        Ids of the images that were left out as they are broken.
    shape : tuple of int
        (3, height, width)
    digest : str
        Hash of ids, labels and content of all images: of the whole files of a folder, else of decoded images.

    Raises
    ------
    ImageError
        If an image is broken and its source does not skip such images.
    ReaderError
        If images differ in size, or there are fewer than a limit asks for; or they are others than were tried.
    """

    def __init__(self, *sources: Source, framing: Framing = AS_IS, seed: int = 0, tried: Tried | None = None) -> None:
        self.framing = framing
        self.shape: tuple[int, ...] = ()
        self.skipped: list[str] = []
        self._sources = sources
        self._tried = tried
        self._hashes: dict[Item, bytes] = {}
        self._compared: set[Item] = set()  # of what another process tried
        self._cache: OrderedDict[Item, NDArray[np.float32]] = OrderedDict()
        self._items: list[Item] = []
        for number in range(len(sources)):
            with about(number):
                self._items += [(number, index) for index in self._choose(number, seed)]
        if tried is not None:
            self._hashes = dict(zip(self._items, tried.hashes, strict=False))
        self.ids = [self._id(item) for item in self._items]
        labels = [self._label(item) for item in self._items]
        self.labels = labels if any(label is not None for label in labels) else None
        self.sources = [sources[number].name for number, _ in self._items] if len(sources) > 1 else None
        digest = hashlib.sha256()
        for name, label, item in zip(self.ids, labels, self._items, strict=True):
            digest.update(f"{name}\0{label or ''}\0".encode() + self._hashes.get(item, b""))
        self.digest = digest.hexdigest()
        if tried is not None:
            if self.digest != tried.digest:
                raise ReaderError("other images, or labels, are here than the client has under the same paths")
            self._image(self._items[0])  # whose size is that of all

    def __len__(self) -> int:
        return len(self._items)

    @property
    def tried(self) -> Tried:
        """What was found of the images when the set was opened."""
        return Tried(self.digest, b"".join(self._hashes[item] for item in self._items), tuple(self.skipped))

    @property
    def n_skipped(self) -> int:
        """Number of images that were left out as they are broken."""
        return len(self.skipped)

    @property
    def columns(self) -> dict[str, list[str] | NDArray[np.float64]]:
        """What a presentation table says of each image: text, or numbers; what is not known is empty, or NaN."""
        columns: dict[str, list[str] | NDArray[np.float64]] = {names.IMAGE_ID: self.ids}
        if self.labels is not None:
            columns[names.CLASS_LABEL] = [label or "" for label in self.labels]
        if self.sources is not None:
            columns[names.SOURCE] = self.sources
        for name in dict.fromkeys(name for source in self._sources for name in source.columns):
            given = [source.columns.get(name) for source in self._sources]
            is_text = any(column is not None and column.dtype == object for column in given)
            nothing = "" if is_text else np.nan
            of = [nothing if (column := given[number]) is None else column[at] for number, at in self._items]
            columns[name] = [str(one) for one in of] if is_text else np.array(of, dtype=np.float64)
        return columns

    @property
    def units(self) -> dict[str, str]:
        """Units of these columns."""
        return {name: units for source in self._sources for name, units in source.units.items()}

    @property
    def factors(self) -> tuple[str, ...]:
        """Those of the columns that were varied by design; of several sources none has a value everywhere."""
        return self._sources[0].factors if len(self._sources) == 1 else ()

    @property
    def bytes_kept(self) -> int:
        """Bytes of images that are kept in memory."""
        decoded = min(CACHE_BYTES, len(self) * 4 * int(np.prod(self.shape)))
        return decoded + sum(source.n_bytes for source in self._sources)

    def load(self, index: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """Decode images: float32 (n, 3, height, width) in [0, 1]; of number `BLANK`, one of mean grey."""
        return torch.from_numpy(np.stack([self._blank if i == BLANK else self._image(self._items[i]) for i in index]))

    @property
    def _blank(self) -> NDArray[np.float32]:
        return np.full(self.shape, MID_GREY[0], dtype=np.float32)

    def size_before_framing(self, index: int) -> tuple[int, int]:
        """Height and width of an image as its source has it."""
        number, at = self._items[index]
        return size_of(self._sources[number].read(at))

    def _image(self, item: Item) -> NDArray[np.float32]:
        if item not in self._cache:
            array = self._decode(item)
            if self._tried is not None and item not in self._compared:
                if self._hash(item, array) != self._hashes.get(item):
                    raise ReaderError(
                        f"image {self._id(item)!r} is another one than the client's, under the same path: copy it anew"
                    )
                self._compared.add(item)
            self._keep(item, array)
        self._cache.move_to_end(item)
        return self._cache[item]

    def _keep(self, item: Item, array: NDArray[np.float32]) -> None:
        """Put a decoded image into the cache; the first one decides on the size of all."""
        self.shape = self.shape or array.shape
        if array.shape != self.shape:
            raise ReaderError(
                f"image {self._id(item)!r} has {array.shape[1]}×{array.shape[2]} px, image "
                f"{self._id(next(iter(self._hashes)))!r} has {self.shape[1]}×{self.shape[2]}: images of a set have "
                f"one size; give one by `size: {min(self.shape[1:])}` (resized and cropped at the centre)"
            )
        self._cache[item] = array
        while len(self._cache) > 1 and len(self._cache) * array.nbytes > CACHE_BYTES:
            self._cache.popitem(last=False)

    def _id(self, item: Item) -> str:
        number, index = item
        source = self._sources[number]
        return f"{source.name}/{source.ids[index]}" if len(self._sources) > 1 else source.ids[index]

    def _label(self, item: Item) -> str | None:
        number, index = item
        labels = self._sources[number].labels
        return None if labels is None else labels[index]

    def _decode(self, item: Item) -> NDArray[np.float32]:
        number, index = item
        source = self._sources[number]
        try:
            return as_rgb(source.read(index), self.framing, source.background)
        except ReaderError:
            raise
        except Exception as error:  # Pillow raises errors of nearly any kind for files that are damaged
            raise ImageError(
                f"image {self._id(item)!r} cannot be decoded: {str(error) or reason(error)}; remove it or replace it, "
                "or leave such images out by `skip_broken: true`"
            ) from error

    def _hash(self, item: Item, array: NDArray[np.float32]) -> bytes:
        """Hash of the file of an image, or of the decoded image where its source says nothing of files."""
        number, index = item
        content = self._sources[number].content
        return hashlib.sha256(array.tobytes() if content is None else content(index)).digest()

    def _choose(self, number: int, seed: int) -> list[int]:
        """Indices of the images of a source that are shown; the next one takes the place of one that is broken."""
        source = self._sources[number]
        n = len(source.ids)
        order = generator(seed, "images of the set", number).permutation(n) if source.shuffle else np.arange(n)
        broken: list[int] = []
        if self._tried is not None:
            known = set(self._tried.broken)
            broken = [index for index in range(n) if self._id((number, index)) in known]
            order = order[~np.isin(order, broken)]
            self.skipped += [self._id((number, index)) for index in broken]
            return _in_turn(source, order)
        while True:
            chosen = _in_turn(source, order)
            for index, error in self._try([(number, index) for index in chosen if (number, index) not in self._hashes]):
                if not source.skip_broken:
                    raise error
                broken.append(index)
                if len(broken) == n:
                    raise ReaderError(
                        f"all {n} images of {source.where} are broken, {self._id((number, index))!r} for instance: "
                        f"{error.__cause__}; give images that can be decoded"
                    )
            if not set(broken).intersection(chosen):
                self.skipped += [self._id((number, index)) for index in sorted(broken)]
                return chosen
            order = order[~np.isin(order, broken)]

    def _try(self, items: Sequence[Item]) -> Iterator[tuple[int, ImageError]]:
        """Decode and hash images, in threads; give out those that are broken."""

        def attempt(item: Item) -> tuple[NDArray[np.float32], bytes] | ImageError:
            try:
                array = self._decode(item)
            except ImageError as error:
                return error
            return array, self._hash(item, array)

        with ThreadPoolExecutor(N_THREADS) as pool:
            # few at a time: they are all in memory
            for start in range(0, len(items), 2 * N_THREADS):
                part = items[start : start + 2 * N_THREADS]
                for item, found in zip(part, pool.map(attempt, part), strict=True):
                    if isinstance(found, ImageError):
                        yield item[1], found
                    else:
                        array, self._hashes[item] = found
                        self._keep(item, array)


def _in_turn(source: Source, order: NDArray[np.int64]) -> list[int]:
    """Choose images of a source in an order: its classes in turn, so that a limit is spread over them."""
    if source.limit is not None and source.limit > len(order):
        are = "are" if len(order) == len(source.ids) else f"of {len(source.ids)} can be decoded"
        raise ReaderError(
            f"limit: {source.limit} images asked for, {len(order)} {are} in {source.where}; lower the limit"
        ).about("limit")
    classes = [None] * len(source.ids) if source.labels is None else source.labels
    seen: dict[str | None, int] = {}
    rank = np.empty(len(order), dtype=np.int64)
    for place, index in enumerate(order.tolist()):
        rank[place] = seen[classes[index]] = seen.get(classes[index], -1) + 1
    chosen = order[np.argsort(rank, kind="stable")][: source.limit]
    return (chosen if source.shuffle else np.sort(chosen)).tolist()
