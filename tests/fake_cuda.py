"""A CUDA device without a GPU: tensors that say they are on `cuda:0`, compute on the CPU, and count host waits.

`FakeCuda` refuses what a real device refuses (an operation on tensors of two devices), so it finds forgotten
transfers; it counts what makes the host wait for the device (`.item()`, `tolist`, `nonzero`, blocking copies), so it
finds slow code. It says nothing about speed, kernels or half-precision rounding on a GPU.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("cuda:0")
MEMORY = 8 * 2**30
"""Bytes of the device."""

_aten = torch.ops.aten
_WAITING = {
    _aten._local_scalar_dense.default: "item",
    _aten.nonzero.default: "nonzero",
    _aten.masked_select.default: "masked_select",
    _aten.equal.default: "equal",
    _aten.is_nonzero.default: "item",
}
"""Operations whose result the host needs before it can go on."""
_INDEXING = {_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default}


class MixedDevicesError(RuntimeError):
    """An operation got tensors of two devices."""


class Waits:
    """How often the host waited for the device, by kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, kind: str) -> None:
        with self._lock:
            self.counts[kind] += 1

    def clear(self) -> None:
        self.counts.clear()

    @property
    def total(self) -> int:
        return sum(self.counts.values())


_WAITS = Waits()


class CudaTensor(torch.Tensor):
    """A tensor on the fake device; `host` holds its values on the CPU."""

    host: torch.Tensor

    @staticmethod
    def __new__(cls, host: torch.Tensor) -> CudaTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            host.size(),
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            layout=host.layout,
            device=DEVICE,
            requires_grad=False,
        )
        made.host = host.detach()
        return made

    def __repr__(self) -> str:
        return f"CudaTensor({self.host!r})"

    def tolist(self) -> Any:
        _WAITS.add("tolist")
        return self.host.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


class _Factories(TorchDispatchMode):
    """Tensors made on the device from nothing, and copies to it."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


class _Constants(TorchFunctionMode):
    """What looks for a driver before any dispatch: `torch.tensor(values, device="cuda")`, a list as an index."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in {torch.tensor, torch.as_tensor} and torch.device(kwargs.get("device") or "cpu").type == "cuda":
            return func(*args, **{**kwargs, "device": "cpu"}).to(DEVICE)
        if func is torch.Tensor.__getitem__ and isinstance(args[0], CudaTensor) and isinstance(args[1], list):
            return func(args[0], torch.tensor(args[1]))
        return func(*args, **kwargs)


def _run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    ours = [leaf for leaf in tensors if isinstance(leaf, CudaTensor)]
    wanted = kwargs.get("device")
    to_device = bool(ours) if wanted is None else torch.device(wanted).type == "cuda"
    if func in {_aten.is_pinned.default}:
        return False
    if func in {_aten._pin_memory.default, getattr(_aten.pin_memory, "default", None)}:
        return args[0]
    _count(func, args, kwargs, ours, to_device=to_device)
    if func not in {_aten._to_copy.default, _aten.copy_.default}:
        _refuse_mixtures(func, args, tensors, ours)
    if wanted is not None:
        kwargs["device"] = torch.device("cpu") if to_device else wanted
    kwargs.pop("pin_memory", None)
    kwargs.pop("non_blocking", None)
    unwrap = lambda leaf: leaf.host if isinstance(leaf, CudaTensor) else leaf  # noqa: E731
    host_args, host_kwargs = pytree.tree_map(unwrap, (tuple(args), kwargs))
    with torch._C._DisableTorchDispatch():
        made = func(*host_args, **host_kwargs)
    if func is _aten.copy_.default:
        return args[0]
    return _wrapped(made, args, host_args, on_device=to_device)


def _wrapped(made: Any, args: Sequence[Any], host_args: Sequence[Any], *, on_device: bool) -> Any:
    """Results on the device; an argument changed in place stays the same object."""
    same = {
        id(host): given
        for given, host in zip(pytree.tree_leaves(tuple(args)), pytree.tree_leaves(host_args), strict=True)
        if isinstance(given, torch.Tensor)
    }

    def wrap(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if id(leaf) in same:
            return same[id(leaf)]
        return CudaTensor(leaf) if on_device else leaf

    return pytree.tree_map(wrap, made)


def _count(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], ours: list[Any], *, to_device: bool) -> None:
    if not ours:
        return
    if func in _WAITING:
        _WAITS.add(_WAITING[func])
    elif func is _aten._to_copy.default and not to_device:
        _WAITS.add("copy")
    elif func is _aten.copy_.default and not isinstance(args[0], CudaTensor):
        blocking = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
        if blocking:
            _WAITS.add("copy")
    elif func in _INDEXING:
        given = [index for index in args[1] if index is not None]
        if any(index.dtype == torch.bool for index in given):
            _WAITS.add("nonzero")
        elif any(not isinstance(index, CudaTensor) for index in given):
            _WAITS.add("copy")
    elif func is _aten.repeat_interleave.Tensor:
        _WAITS.add("nonzero")


def _refuse_mixtures(func: Any, args: Sequence[Any], tensors: list[torch.Tensor], ours: list[Any]) -> None:
    """As CUDA does: only a scalar tensor of the CPU may stand beside tensors of the device."""
    strangers = [one for one in tensors if not isinstance(one, CudaTensor) and one.dim() > 0]
    if func in _INDEXING:  # indices may lie on the CPU and are copied
        strangers = [one for one in strangers if not any(one is index for index in args[1])]
    if ours and strangers:
        raise MixedDevicesError(
            f"{func} got tensors on {DEVICE} and on the CPU: {[tuple(one.shape) for one in strangers]}"
        )


class _Event:
    def __init__(self, *_: Any, **__: Any) -> None: ...

    def record(self, *_: Any) -> None: ...

    def synchronize(self) -> None:
        _WAITS.add("event")

    def query(self) -> bool:
        return True


@contextmanager
def _no_inference_mode(*_: Any) -> Iterator[None]:
    with torch.no_grad():
        yield


def _no_gradients(_: torch.Tensor, by: torch.Tensor, **__: Any) -> tuple[torch.Tensor]:
    """Zeros on the device: autograd's engine would start a thread for it, which asks the driver for a context."""
    return (torch.zeros_like(by),)


@contextmanager
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waits]:
    """Give torch a device `cuda` until the block ends.

    Operations on tensors of the device work in all threads; tensors are made on it from nothing only in this one.

    Args:
        monkeypatch: undoes what this changes in torch.

    Yields:
        The count of host waits, which grows.
    """
    torch._C._ensureCUDADeviceGuardSet()
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(cuda, "device_count", lambda: 1)
    monkeypatch.setattr(cuda, "current_device", lambda: 0)
    monkeypatch.setattr(cuda, "current_stream", lambda device=None: None)
    monkeypatch.setattr(cuda, "synchronize", lambda device=None: _WAITS.add("synchronize"))
    monkeypatch.setattr(cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(cuda, "mem_get_info", lambda device=None: (MEMORY, MEMORY))
    monkeypatch.setattr(cuda, "get_device_name", lambda device=None: "a fake GPU")
    monkeypatch.setattr(cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(cuda, "Event", _Event)
    monkeypatch.setattr(torch._C, "_InferenceMode", lambda mode=True: _no_inference_mode())
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)
    monkeypatch.setattr(torch.autograd, "grad", _no_gradients)
    overwritten = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    _WAITS.clear()
    with _Constants(), _Factories():
        yield _WAITS
    torch.__future__.set_overwrite_module_params_on_conversion(overwritten)
