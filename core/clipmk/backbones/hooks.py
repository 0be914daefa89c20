"""Captures and replaces what passes through a module; hooks live for one forward and are always removed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class ModuleCall:
    """The last call of a module; nothing but `called` is set before there was one."""

    called: bool = False
    inputs: Tensor
    """Its first argument."""
    keywords: dict[str, Any]
    output: Tensor

    def record(self, _module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        """A forward hook."""
        self.called = True
        self.inputs = args[0] if args else next(iter(keywords.values()))
        self.keywords = keywords
        self.output = output


@contextmanager
def captured(*modules: nn.Module) -> Iterator[tuple[ModuleCall, ...]]:
    """Record the last call of each module within the block."""
    calls = tuple(ModuleCall() for _ in modules)
    pairs = zip(modules, calls, strict=True)
    handles = [module.register_forward_hook(call.record, with_kwargs=True) for module, call in pairs]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def with_output(module: nn.Module, output: Any) -> Iterator[None]:
    """Make the module return `output` within the block, for any input."""
    handle = module.register_forward_hook(lambda *_: output)
    try:
        yield
    finally:
        handle.remove()
