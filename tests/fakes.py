"""An engine without a model: what the app does with answers does not depend on torch."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import samples
from clipmk.explanation import Explanation
from clipmk.records import ModelEntry, ModelInfo, Prediction
from clipmk.worker import protocol
from clipmk.worker.protocol import Final, Request
from clipmk.worker.session import Session
from clipmk_tui.app.engine.base import OnPartial

FAMILIES = {"embedded/vit-s8": "vit", "embedded/vit-xs": "vit", "embedded/rn-s": "resnet", "embedded/cnx-s": "convnext"}
"""Models that the fake engine holds."""


def entry(model: str, source: str = "embedded") -> ModelEntry:
    """A model as the catalogue would list it."""
    return ModelEntry(
        id=model,
        source=source,  # type: ignore[arg-type]
        architecture=model.rpartition("/")[2],
        pretrained=None,
        family=FAMILIES.get(model, "vit"),
        input_size=64,
        embed_dim=128,
    )


def explained(model: str, image: str, target: str | None = None) -> Explanation:
    """`samples.explanation` about that image by that model: the second half of the models predicts "cat"."""
    names = list(FAMILIES)
    predicted = "fox" if model not in names or names.index(model) < len(names) // 2 else "cat"
    made = samples.explanation(path=image)
    info = dataclasses.replace(made.model, id=model, family=FAMILIES.get(model, "vit"))
    made = dataclasses.replace(made, model=info)
    if predicted == "cat":
        swapped = (made.predictions[1], made.predictions[0], *made.predictions[2:])
        made = dataclasses.replace(
            made.for_class("cat"),
            predictions=tuple(dataclasses.replace(p, rank=rank) for rank, p in enumerate(swapped, 1)),
        )
    return made if target is None or target not in made.classes else made.for_class(target)


class FakeEngine:
    """Answers at once, in order, from `explained`; says so in `asked`.

    Attributes:
        asked: every request, in order, as it was asked (without an id).
        cancelled: those whose task was cancelled while they waited.
        gate: while cleared, no request is answered; progress is told before waiting.
        failures: for a type of request (or for an image's path, or a model's id) the error raised instead.
        closed: whether `close` was called.
        uses_server: what the engine says of itself.
    """

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.cancelled: list[Request] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: dict[Any, Exception] = {}
        self.sessions: list[Session] = []
        self.started = self.closed = False
        self.on_restart: Callable[[str], None] | None = None
        self.uses_server = False

    async def start(self) -> None:
        self.started = True

    async def reconfigure(self, session: Session) -> None:
        self.sessions.append(session)

    async def close(self) -> None:
        self.closed = True

    async def ask(self, request: Request, on_partial: OnPartial | None = None) -> Any:
        self.asked.append(request)
        if on_partial is not None:
            on_partial(protocol.Progress(id=1, stage="image", done=0, total=4))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(request)
            raise
        for key in (type(request), getattr(request, "image", None), getattr(request, "model", None)):
            if key in self.failures:
                raise self.failures[key]
        return self._answer(request, on_partial or (lambda partial: None))

    def _answer(self, request: Request, tell: OnPartial) -> Final:
        match request:
            case protocol.Load(model=model):
                info = ModelInfo(
                    id=model,
                    family=FAMILIES.get(model, "vit"),
                    weights_sha256="0" * 64,
                    architecture=model,
                    pretrained=None,
                    input_size=64,
                )
                return protocol.Loaded(
                    id=1,
                    model=info,
                    classes=("fox", "cat", "wolf", "dog"),
                    descriptor_count=120,
                    device="cpu",
                    load_ms=1.0,
                    warnings=(),
                )
            case protocol.Explain(model=model, image=image, target=target):
                return protocol.Explained(id=1, explanation=explained(model, image, target))
            case protocol.WhatIf(model=model, image=image, left_out=left_out):
                before = explained(model, image).predictions
                after = tuple(
                    Prediction(
                        rank=p.rank,
                        class_name=p.class_name,
                        probability=p.probability * (0.9 ** len(left_out) if p.rank == 1 else 1.0),
                        cosine=p.cosine,
                        independent=None,
                    )
                    for p in before
                )
                return protocol.Reranked(id=1, left_out=left_out, predictions=after)
            case protocol.Compare(models=models, image=image, target=target):
                for model in models:
                    tell(self._column(model, image, target))
                return protocol.Done(id=1, count=len(models))
            case protocol.Survey(model=model, images=images):
                for image in images:
                    name = explained(model, image).predictions[0].class_name
                    tell(protocol.Predicted(id=1, image=image, class_name=name, probability=0.7))
                return protocol.Done(id=1, count=len(images))
            case protocol.ListModels():
                remote = dataclasses.replace(entry("ViT-B-32:laion2b_s34b_b79k", "remote"), input_size=224)
                return protocol.Listed(id=1, models=(*map(entry, FAMILIES), remote))

    def _column(self, model: str, image: str, target: str | None) -> protocol.ColumnReady:
        failure = self.failures.get(model)
        if failure is not None:
            return protocol.ColumnReady(id=1, model=model, explanation=None, code="model", message=str(failure))
        return protocol.ColumnReady(id=1, model=model, explanation=explained(model, image, target))
