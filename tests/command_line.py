"""Runs of the command line in the process of the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

FAST = ("--preset", "paper", "--grounding", "attend")
"""Options of `clipmk explain` with which an image takes one forward."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run of the command line left behind."""

    status: int
    out: str
    err: str


Runner = Callable[..., Ran]
