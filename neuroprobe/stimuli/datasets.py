"""Data sets of torchvision, by the name of their class."""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision import datasets
from torchvision.datasets import DatasetFolder, VisionDataset

from neuroprobe.errors import ReaderError, closest, unknown_name
from neuroprobe.stimuli.decoding import Picture
from neuroprobe.stimuli.images import Source

SPLITS: Final = ("split", "train", "image_set")  # what constructors call the part of a data set
# arguments that keys of their own give, or that no text can
NO_OPTIONS: Final = {"root", "download", "transform", "target_transform", "transforms", "loader", "is_valid_file"}
TARGETS: Final = ("targets", "labels", "_labels", "y")  # where data sets keep the targets of all images


def dataset_names() -> list[str]:
    """Names of the data sets."""
    found = {name: getattr(datasets, name) for name in datasets.__all__}
    return sorted(
        name
        for name, thing in found.items()
        if inspect.isclass(thing) and issubclass(thing, VisionDataset) and thing not in {VisionDataset, DatasetFolder}
    )


def parameters(name: str) -> dict[str, inspect.Parameter]:
    """Parameters of a data set's constructor, with those that it hands on to its base."""
    found: dict[str, inspect.Parameter] = {}
    for part in inspect.getmro(getattr(datasets, name)):
        if "__init__" in vars(part):
            own = inspect.signature(vars(part)["__init__"]).parameters
            found = {key: own[key] for key in list(own)[1:]} | found
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values()):
                break
    return {key: one for key, one in found.items() if one.kind in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY}}


def complaints(
    name: str, root: str | None, split: str | None, download: bool, options: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with the arguments of a data set: the place in the protocol, and a sentence."""
    if name not in dataset_names():
        yield ("dataset",), unknown_name("data set", name, dataset_names())
        return
    taken = parameters(name)
    part = next((key for key in SPLITS if key in taken), None)
    if "root" in taken and root is None:
        yield ("dataset",), f"{name} needs the key root: the folder in which it lies"
    if "root" not in taken and root is not None:
        yield ("root",), f"{name} lies nowhere: leave out root"
    if part is not None and taken[part].default is inspect.Parameter.empty and split is None:
        yield ("dataset",), f"{name} needs the key split"
    if part is None and split is not None:
        yield ("split",), f"{name} has no splits: leave out split"
    if part == "train" and split not in {None, "train", "test"}:
        yield ("split",), f"split of {name}: given {split!r}{closest(split, ('train', 'test'))}, expected train or test"
    if download and "download" not in taken:
        yield ("download",), f"torchvision does not download {name}: leave out download, and put the files into root"
    allowed = [key for key in taken if key not in NO_OPTIONS | {part}]
    for key in options:
        if key not in allowed:
            listed = ", ".join(allowed) or "none"
            yield ("options", key), f"unknown option {key!r}{closest(key, allowed)}; {name} takes: {listed}"
    missing = [key for key in allowed if taken[key].default is inspect.Parameter.empty and key not in options]
    if missing:
        yield ("dataset",), f"{name} needs the options: {', '.join(missing)}"


def open_dataset(
    name: str,
    root: str | None = None,
    split: str | None = None,
    *,
    download: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Source:
    """Open a data set of torchvision whose items are pairs of an image and a target.

    Parameters
    ----------
    name : str
        Of a class in ``torchvision.datasets``.
    root : str, optional
        Folder in which it lies.
    split : str, optional
        Part of the data set; where the class takes ``train``, train or test. By default the class's own choice, which
        is mostly the images for training.
    download : bool
        Whether torchvision may download it.
    options : dict, optional
        Further arguments of the class.

    Raises
    ------
    ReaderError
        If there is no such data set, it is not where it was looked for, or its items are no such pairs.

    Notes
    -----
    A target that is a class is a label, by its name where the data set has ``classes``; of other targets (masks, boxes,
    captions) the images are used without labels.
    """
    options = options or {}
    for _, complaint in complaints(name, root, split, download, options):
        raise ReaderError(complaint)
    images, n = _construct(name, root, split, download, options)
    lock = Lock()  # FakeData seeds torch, and others keep one file open

    def item(index: int) -> tuple[Any, Any]:
        with lock:
            return _pair(images[index], name)

    if not n:
        raise ReaderError(f"data set {name} is empty")
    return Source(
        where=f"data set {name}" + (f" in {root!r}" if root else ""),
        ids=[str(index) for index in range(n)],
        labels=_labels(images, n, item),
        read=lambda index: _picture(item(index)[0]),
        n_bytes=getattr(getattr(images, "data", None), "nbytes", 0),
    )


def _construct(
    name: str, root: str | None, split: str | None, download: bool, options: Mapping[str, Any]
) -> tuple[Any, int]:
    """Make a data set, and count its images."""
    taken = parameters(name)
    arguments = dict(options)
    if root is not None:
        arguments["root"] = root
    if split is not None:
        part = next(key for key in SPLITS if key in taken)
        arguments[part] = split == "train" if part == "train" else split
    if "download" in taken:
        # some classes download unless they are told not to
        arguments["download"] = download
    if root is not None and not download and not Path(root).is_dir():
        raise _missing(name, root, "there is no such folder", "download" in taken)
    try:
        with redirect_stdout(sys.stderr):
            images = getattr(datasets, name)(**arguments)
        return images, len(images)
    except (ValueError, TypeError) as error:
        raise ReaderError(f"data set {name}: {error}") from error
    except ImportError as error:
        raise ReaderError(f"data set {name} needs a package that is not installed: {error}") from error
    except Exception as error:  # each class has its own way of not finding its files
        if download:
            raise ReaderError(f"data set {name} cannot be downloaded to {root!r}: {error}") from error
        raise _missing(name, root, str(error), "download" in taken) from error


def _missing(name: str, root: str | None, why: str, downloads: bool) -> ReaderError:
    other = (
        ", or let torchvision download it by `download: true`" if downloads else ", as torchvision does not download it"
    )
    return ReaderError(f"data set {name} is not in {root!r} ({why}); give the folder that holds it as `root`{other}")


def _pair(item: Any, name: str) -> tuple[Any, Any]:
    is_pair = isinstance(item, tuple | list) and len(item) == 2
    if not is_pair or not isinstance(item[0], Image.Image | Tensor) or getattr(item[0], "ndim", 2) not in {2, 3}:
        parts = item if isinstance(item, tuple | list) else [item]
        given = ", ".join(type(part).__name__ for part in parts)
        raise ReaderError(
            f"data set {name} gives ({given}), expected an image and its target: data sets of videos and of pairs of "
            "images cannot be shown"
        )
    return item[0], item[1]


def _picture(image: Image.Image | Tensor) -> Picture:
    if isinstance(image, Image.Image):
        return image
    array: NDArray[Any] = image.numpy()
    return np.moveaxis(array, 0, -1) if array.ndim == 3 else array


def _labels(images: Any, n: int, item: Callable[[int], tuple[Any, Any]]) -> list[str | None] | None:
    targets = _targets(images, n, item)
    if targets is None:
        return None
    names = _class_names(getattr(images, "classes", None) or ())
    return [
        None if target is None or target < 0 else names[target] if target < len(names) else str(target)
        for target in targets
    ]


def _targets(images: Any, n: int, item: Callable[[int], tuple[Any, Any]]) -> list[int | None] | None:
    """Classes of all images by number, without decoding them where the data set lists them; None if it has none."""

    def target(index: int) -> Any:
        try:
            return item(index)[1]
        except ReaderError:
            raise
        except Exception:  # a broken image, of which the set will tell
            return None

    place, first = next(((i, t) for i in range(n) if (t := target(i)) is not None), (0, None))
    if not _is_class(first):
        return None
    for listed in _listed_targets(images):
        column = np.asarray(listed)
        if column.shape == (n,) and column.dtype.kind in "iu" and column[place] == first:
            return [int(number) for number in column]
    found = (target(index) for index in range(n))
    return [int(number) if _is_class(number) else None for number in found]


def _listed_targets(images: Any) -> Iterator[Sequence[Any]]:
    for name in TARGETS:
        if hasattr(images, name):
            yield getattr(images, name)
    if hasattr(images, "_samples"):
        yield [sample[-1] for sample in images._samples]


def _is_class(target: Any) -> bool:
    if isinstance(target, Tensor | np.ndarray):
        return target.ndim == 0 and not np.issubdtype(np.asarray(target).dtype, np.inexact)
    return isinstance(target, int | np.integer) and not isinstance(target, bool)


def _class_names(classes: Sequence[Any]) -> list[str]:
    """Names of the classes, all synonyms of each; a name of two classes (ImageNet has some) gets their numbers."""
    names = [one if isinstance(one, str) else ", ".join(map(str, one)) for one in classes]
    times = Counter(names)
    return [name if times[name] == 1 else f"{name} ({number})" for number, name in enumerate(names)]
