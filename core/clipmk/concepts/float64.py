"""Widening to float64 where the values may lie on a device: Apple's GPUs have no float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def host64(values: Tensor) -> Tensor:
    """In float64 on the CPU, without gradient: brought there first and widened then, which also halves the copy."""
    return values.detach().cpu().to(torch.float64)


def device64(values: Tensor) -> Tensor:
    """In float64 without gradient, on the same device where that has float64, else on the CPU."""
    kept = values if values.device.type in {"cpu", "cuda"} else values.cpu()
    return kept.detach().to(torch.float64)
