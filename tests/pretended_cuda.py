"""A CUDA device that is none: tensors say that they are on it, and are computed with on the CPU.

What would fail on a real one fails here: operations on tensors of two devices (but for scalars, and indices that are on
the CPU), and `.numpy()` of a tensor that is not on the CPU. So the whole engine can be run where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("cuda:0")
aten = torch.ops.aten
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
COPYING = {aten.copy_, aten._to_copy, aten.to, aten.type_as}


class OnDevice(Tensor):
    """A tensor that says it is on the device; `inner` holds its numbers."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
            requires_grad=inner.requires_grad,
        )
        made.inner = inner
        return made  # type: ignore[no-any-return]

    def __repr__(self, **_: Any) -> str:
        return f"OnDevice({self.inner})"

    def record_stream(self, stream: object) -> None:
        """There is one only."""

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def new_tensor(self, data: Any, dtype: torch.dtype | None = None) -> Tensor:  # type: ignore[override]
        return torch.tensor(data, dtype=dtype or self.dtype).to(DEVICE)

    def __getitem__(self, index: Any) -> Tensor:
        return super().__getitem__(_index(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_index(index), value)

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.inner.untyped_storage()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


def _index(given: Any) -> Any:
    """Make tensors of lists of places, as torch does on the device."""
    if isinstance(given, tuple):
        return tuple(_index(one) for one in given)
    return torch.tensor(given) if isinstance(given, list) else given


class Device(TorchDispatchMode):
    """Makes tensors on the device, where they are asked for there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


class Data(TorchFunctionMode):
    """Does in parts what torch does where no dispatch sees it, or not with such tensors."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        if func in {torch.tensor, torch.as_tensor} and device is not None and torch.device(device) == DEVICE:
            return func(*args, **{**kwargs, "device": "cpu"}).to(DEVICE)
        return func(*args, **kwargs)


def _call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
    there = [one for one in given if isinstance(one, OnDevice)]
    device = next((one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.device)), None)
    if there and func.overloadpacket not in COPYING:
        checked = tree_flatten((args[:1], args[2:], kwargs))[0] if func in INDEXING else given
        own = func not in INDEXING or isinstance(args[0], OnDevice)
        for one in checked:
            if (isinstance(one, Tensor) and not isinstance(one, OnDevice) and one.dim()) or not own:
                raise RuntimeError(
                    f"{func}: expected all tensors to be on the same device, but found at least two devices, "
                    f"{DEVICE} and cpu!"
                )
    is_there = bool(there) if device is None else device.type == DEVICE.type
    if func is aten.copy_.default:
        is_there = isinstance(args[0], OnDevice)
    wrapper = {id(one.inner): one for one in there}

    def bare(one: Any) -> Any:
        if isinstance(one, torch.device) and one.type == DEVICE.type:
            return torch.device("cpu")
        return one.inner if isinstance(one, OnDevice) else one

    args, kwargs = tree_map(bare, (args, kwargs))
    kwargs.pop("pin_memory", None)
    found = func(*args, **kwargs)

    def wrapped(one: Any) -> Any:
        if not isinstance(one, Tensor) or one.device.type == "meta":
            return one
        if id(one) in wrapper:
            return wrapper[id(one)]  # what was changed in place
        return OnDevice(one) if is_there else one

    return tree_map(wrapped, found)


class _Stream:
    def __init__(self, device: Any = None) -> None:
        self.device = device

    def record_event(self) -> _Stream:
        return self

    def wait_event(self, event: object) -> None:
        assert isinstance(event, _Stream)


@contextmanager
def pretended_cuda() -> Iterator[torch.device]:
    """Have torch see one CUDA device, which this thread can use; where there is a real one, take that."""
    assert not torch.cuda.is_available(), "test on the device that is there"
    # as for torch's own fake tensors: nothing is asked of a driver that is not there
    torch._C._ensureCUDADeviceGuardSet()  # type: ignore[attr-defined]
    stubs: dict[str, Callable[..., Any]] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "mem_get_info": lambda *_: (1 << 34, 1 << 34),
        "memory_reserved": lambda *_: 0,
        "get_device_capability": lambda *_: (9, 0),
        "Stream": _Stream,
        "stream": lambda _: nullcontext(),
        "current_stream": lambda *_: _Stream(),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, stub in stubs.items():
            patch.setattr(torch.cuda, name, stub)
        patch.setattr(Tensor, "pin_memory", lambda self: self.clone())
        patch.setattr(torch.backends.cudnn, "enabled", False)
        # a mode is one thread's
        patch.setattr("neuroprobe.recorder.FEEDS_AHEAD", ())
        # a parameter of a network cannot become a tensor of another type
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            with Device(), Data():
                yield DEVICE
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(before)
