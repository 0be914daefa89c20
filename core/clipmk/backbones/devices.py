"""Devices, precisions, and copies between a device and the CPU that make neither side wait."""

import torch
from torch import nn
from torch.nn.functional import conv2d, layer_norm, scaled_dot_product_attention

from clipmk.errors import DeviceError, suggest
from clipmk.system.quiet import quiet

PRECISIONS: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Names of the precisions and the dtype of the weights in each."""


def available_devices() -> tuple[str, ...]:
    """Names of the devices of this machine, the best first: "cuda", "cuda:1", "mps", "cpu"."""
    with quiet():  # an unsuitable driver warns
        cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
        mps = torch.backends.mps.is_available()
    return (*(f"cuda:{i}" if i else "cuda" for i in range(cuda)), *(["mps"] if mps else []), "cpu")


def choose_device(name: str) -> torch.device:
    """Turn "auto", "cpu", "cuda", "cuda:1" or "mps" into a device; `DeviceError` names those that this machine has."""
    here = available_devices()
    if name == "auto":
        return torch.device(here[0])
    wanted = "cuda" if name == "cuda:0" else name
    if wanted not in here:
        known = {"auto", "cpu", "cuda", "mps"}
        hint = "" if name.partition(":")[0] in known else f"; {suggest(name, sorted(known))}"
        raise DeviceError(f"device {name!r} is not available; this machine has: {', '.join(here)}{hint}")
    return torch.device(name)


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Turn "fp32", "bf16" or "fp16" into a dtype that works on `device`; `DeviceError` if that is impossible."""
    if precision not in PRECISIONS:
        raise DeviceError(f"precision {precision!r} does not exist; choose one of: {', '.join(PRECISIONS)}")
    dtype = PRECISIONS[precision]
    if dtype is torch.float16 and device.type == "cpu" and not _computes_halves():
        raise DeviceError("precision 'fp16' does not work on this CPU; choose 'fp32' or 'bf16', or a GPU")
    return dtype


def _computes_halves() -> bool:
    sample = torch.zeros(1, 3, 4, 4, dtype=torch.float16)
    try:
        conv2d(sample, sample)
        layer_norm(sample, (4,))
        scaled_dot_product_attention(sample, sample, sample)
    except RuntimeError:  # "... not implemented for 'Half'"
        return False
    return True


def cast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast a model in place, except norms that must stay in float32 (batch statistics, open_clip's LayerNormFp32)."""
    model.to(dtype)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) or type(module).__name__ == "LayerNormFp32":  # noqa: SLF001
            module.float()
    return model


def upload(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor from the CPU to a device; to CUDA from pinned memory, so that neither side waits."""
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


class HostCopy:
    """A tensor on its way to the CPU: queued from CUDA into pinned memory, without waiting for it yet."""

    def __init__(self, values: torch.Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        if values.device.type != "cuda":
            self._values = values.cpu()
            return
        self._values = torch.empty(values.shape, dtype=values.dtype, device="cpu", pin_memory=True)
        self._values.copy_(values, non_blocking=True)
        self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call] # torch leaves it untyped
        self._arrived.record(torch.cuda.current_stream(values.device))

    def wait(self) -> torch.Tensor:
        """The tensor on the CPU; waits for the copy, in any thread, without blocking the device."""
        arriving = self._arrived
        if arriving is not None:
            arriving.synchronize()
            self._arrived = None  # once is enough
        return self._values
