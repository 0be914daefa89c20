"""Catching tensors on their way through a model; hooks live for one forward and are always removed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class ModuleCall:
    """What passed through one module: `inputs` (first argument), `keywords` and `output`, once it was called."""

    called: bool = False
    inputs: Tensor
    keywords: dict[str, Any]
    output: Tensor


@contextmanager
def captured(*modules: nn.Module) -> Iterator[tuple[ModuleCall, ...]]:
    """Record the last call of each module while the block runs."""
    calls = tuple(ModuleCall() for _ in modules)
    handles = [
        module.register_forward_hook(_recorder(call), with_kwargs=True)
        for module, call in zip(modules, calls, strict=True)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def with_output(module: nn.Module, output: Any) -> Iterator[None]:
    """Let the module return `output` while the block runs, whatever goes in."""
    handle = module.register_forward_hook(lambda *_: output)
    try:
        yield
    finally:
        handle.remove()


def _recorder(call: ModuleCall) -> Any:
    def record(_module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        call.called = True
        call.inputs = args[0] if args else next(iter(keywords.values()))
        call.keywords = keywords
        call.output = output

    return record
