"""What all image encoders have in common: their interface, the result of a forward, hooks that capture what passes.

Hooks live for one forward and are always removed. They are a thread's own: several may encode with one model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float

    from clipmk.settings import Features

Progress = Callable[[int, int], None]  # called with (texts done, texts in all)
PROMPTS = 'grounding="prompts" (--grounding prompts)'
"""The grounding that every encoder can do, for messages, in Python's words and in those of the command line."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Result of one forward of the image encoder."""

    embeddings: Float[Tensor, "batch embed"]
    """float32, L2-normalised: the ordinary image embeddings."""
    patches: Float[Tensor, "batch patches channels"]
    """float32, row by row over the grid: output tokens of the last block before the final LayerNorm, without the class
    token; or the keys of the last attention, bias included; or the last feature map of a convolutional encoder."""
    grid: tuple[int, int]
    """(rows, columns) of patches."""
    attention: Float[Tensor, "batch patches"] | None
    """float32: attention of the class token (or pooling query) on each patch in the last attention, mean over heads;
    a row sums to 1 minus the class token's attention to itself. None for encoders that average."""
    state: Any
    """What `Backbone.pool_regions` needs of the same forward; private to the encoder that made it."""


class ImageEncoder(ABC):
    """The image half of a backbone, one subclass per family; embeddings are raw: in the weights' dtype, any norm."""

    has_cls: bool = False
    supports_keys: bool = False
    blocks: tuple[nn.Module, ...] = ()
    """Of a transformer, in order; each has its attention as `attn`."""
    stages: tuple[nn.Module, ...] = ()
    """Of a convolutional tower, in order; they give (batch, channels, rows, columns)."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._visual = model.visual

    @property
    def tower(self) -> nn.Module:
        """All that embeds images."""
        tower: nn.Module = self._visual
        return tower

    @cached_property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches of one image."""
        parameter = next(self._visual.parameters())
        blank = torch.zeros(1, 3, *self._visual.image_size, dtype=parameter.dtype, device=parameter.device)
        with torch.inference_mode():
            return self.encode(blank, "tokens").grid

    def embed(self, pixels: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch embed"]:
        """Embed images."""
        return without_tokens(self._model.encode_image(pixels))

    @abstractmethod
    def encode(self, pixels: Float[Tensor, "batch 3 side side"], features: Features) -> Encoded:
        """Embed images and keep patches, attention and the state for `pool`."""

    def values(self, pixels: Float[Tensor, "1 3 side side"]) -> Float[Tensor, "patches embed"] | None:
        """MaskCLIP's value path: every patch as the last attention embeds it if it attends to itself alone, any norm.

        None where `pool` of single patches says the same.
        """
        return None

    @abstractmethod
    def pool(self, state: Any, weights: Float[Tensor, "batch regions patches"]) -> Float[Tensor, "batch regions embed"]:
        """Embed regions from the state of `encode`; weights in [0, 1], no region all zero."""


def without_tokens(result: Any) -> Tensor:
    """The embeddings alone, where an encoder returns its tokens, too (`output_tokens`)."""
    embeddings: Tensor = result[0] if isinstance(result, tuple) else result
    return embeddings


class ModuleCall:
    """The last call of a module by the thread that made this; only `called` is set before there was one."""

    called: bool = False
    inputs: Tensor
    """Its first argument."""
    keywords: dict[str, Any]
    output: Tensor

    def __init__(self) -> None:
        self._thread = get_ident()

    def record(self, _module: nn.Module, args: tuple[Any, ...], *rest: Any) -> None:
        """A forward hook; torch leaves the keywords out while another thread is adding or removing its own."""
        if get_ident() == self._thread:
            self.called = True
            self.keywords, self.output = rest
            self.inputs = args[0] if args else next(iter(self.keywords.values()))


_CHANGING = RLock()  # held while a module is changed: torch numbers hooks without a lock


@contextmanager
def captured(*modules: nn.Module) -> Iterator[tuple[ModuleCall, ...]]:
    """Record the last call of each module within the block, in this thread."""
    calls = tuple(ModuleCall() for _ in modules)
    pairs = zip(modules, calls, strict=True)
    with _CHANGING:
        handles = [module.register_forward_hook(call.record, with_kwargs=True) for module, call in pairs]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def with_output(module: nn.Module, output: Any) -> Iterator[None]:
    """Make the module return `output` in this thread, for any input, without computing anything."""
    thread = get_ident()
    with _CHANGING:
        own = vars(module).get("forward")  # of the instance: libraries wrap a user's modules so
        forward = module.forward
        module.forward = lambda *args, **named: output if get_ident() == thread else forward(*args, **named)
        try:
            yield
        finally:
            del module.forward
            if own is not None:
                module.forward = own
