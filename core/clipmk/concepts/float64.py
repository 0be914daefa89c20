"""Widening to float64 of values that may be on a device: Apple's GPUs have no float64."""

import torch
from torch import Tensor


def host64(values: Tensor) -> Tensor:
    """The values in float64 on the CPU, without gradient; widened after the copy, which halves it, too."""
    return values.detach().cpu().to(torch.float64)


def mean64(rows: Tensor) -> Tensor:
    """The mean row in float64 on the CPU, without a widened copy of all rows."""
    return rows.detach().cpu().mean(0, dtype=torch.float64)
