"""Catching tensors on their way through a model; hooks live for one forward and are always removed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class Catch:
    """What passed through one module: `inputs` (first argument), `keywords` and `output`, once it was called."""

    called: bool = False
    inputs: Tensor
    keywords: dict[str, Any]
    output: Tensor


@contextmanager
def caught(*modules: nn.Module) -> Iterator[tuple[Catch, ...]]:
    """Record the last call of each module while the block runs."""
    catches = tuple(Catch() for _ in modules)
    handles = [
        module.register_forward_hook(_recorder(catch), with_kwargs=True)
        for module, catch in zip(modules, catches, strict=True)
    ]
    try:
        yield catches
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def replaced(module: nn.Module, output: Any) -> Iterator[None]:
    """Let the module return `output` while the block runs, whatever goes in."""
    handle = module.register_forward_hook(lambda *_: output)
    try:
        yield
    finally:
        handle.remove()


def _recorder(catch: Catch) -> Any:
    def record(_module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        catch.called = True
        catch.inputs = args[0] if args else next(iter(keywords.values()))
        catch.keywords = keywords
        catch.output = output

    return record
