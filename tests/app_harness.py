"""One harness for the app's tests: an engine that answers without a model, apps to drive by keys, and what they show.

Tests wait by public means only: until all messages are processed, all workers are done and the screen is drawn.
"""

from __future__ import annotations

import asyncio
import dataclasses
import html
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.cells import cell_len
from textual import events
from textual.app import App
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Static

import samples
from clipmk.explanation import Explanation
from clipmk.records import ModelEntry, ModelInfo
from clipmk.settings import preset
from clipmk.worker import protocol
from clipmk.worker.protocol import Final, Request
from clipmk.worker.session import Session
from clipmk_tui.app import app as app_module
from clipmk_tui.app.app import ClipmkApp
from clipmk_tui.app.bindings import BINDING_IDS, parse_keys
from clipmk_tui.app.engine.worker import OnPartial
from clipmk_tui.app.image_list import ImageList, Item
from clipmk_tui.app.ordered_input import OrderedInput
from clipmk_tui.app.questions import Questions
from clipmk_tui.app.screens import main as main_module
from clipmk_tui.app.screens.compare import CompareScreen
from clipmk_tui.app.screens.main import MainScreen
from clipmk_tui.app.start_options import StartOptions
from clipmk_tui.app.state import State
from clipmk_tui.app.theme import DARK, LIGHT, own_variables

LIMIT = 120.0
"""Seconds after which a test that waits fails."""
SIZES = ((80, 24), (120, 40))
IMAGE = "pictures/fox_03.png"
STYLESHEET = Path(app_module.__file__).with_name("app.tcss")
CELL = 12.2
"""Width of a cell in an exported picture."""

# The app tunes the garbage collector for itself; one process of tests has many apps, one after the other.
main_module.gc = SimpleNamespace(freeze=lambda: None, set_threshold=lambda *_: None)  # type: ignore[assignment]

FAMILIES = {"embedded/vit-s8": "vit", "embedded/vit-xs": "vit", "embedded/rn-s": "resnet", "embedded/cnx-s": "convnext"}
"""Models that the fake engine holds."""

REMOTE = "ViT-B-32:laion2b_s34b_b79k"
"""A model that is not on this machine."""


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
        second, first, *others = made.predictions
        ranked = tuple(dataclasses.replace(p, rank=rank) for rank, p in enumerate((first, second, *others), 1))
        made = dataclasses.replace(made.for_class("cat"), predictions=ranked)
    return made if target is None or target not in made.classes else made.for_class(target)


def answered(made: Explanation, asks: tuple[str, ...]) -> Explanation:
    """With `samples.asked` for each text: "not ..." is not seen, "mapless" has no map."""
    found = (samples.asked(text, heat=text != "mapless", seen=not text.startswith("not")) for text in asks)
    return dataclasses.replace(made, asked=tuple(found))


def loaded(model: str) -> protocol.Loaded:
    """What the engine reports of a model."""
    info = ModelInfo(
        id=model,
        family=FAMILIES.get(model, "vit"),
        weights_sha256="0" * 64,
        architecture=model,
        pretrained=None,
        input_size=64,
    )
    classes = ("fox", "cat", "wolf", "dog")
    return protocol.Loaded(
        id=1, model=info, classes=classes, descriptor_count=120, device="cpu", load_ms=1.0, warnings=()
    )


class FakeEngine:
    """Answers at once, in order, from `explained`; says so in `asked`.

    Attributes:
        asked: every request, in order, as it was asked (without an id).
        cancelled: those whose task was cancelled while they waited.
        gate: while cleared, no request is answered; progress is told before waiting.
        failures: for a type of request (or for an image's path, or a model's id) the error raised instead.
        pulled: models that were downloaded.
        closed: whether `close` was called.
        uses_server: what the engine says of itself.
    """

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.cancelled: list[Request] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: dict[Any, Exception] = {}
        self.pulled: set[str] = set()
        self.sessions: list[Session] = []
        self.started = self.closed = False
        self.on_restart: Callable[[str], None] | None = None
        self.uses_server = False

    async def start(self) -> None:
        self.started = True

    def reconfigure(self, session: Session) -> None:
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

    def _answer(self, request: Request, tell: OnPartial) -> Final:  # noqa: PLR0911 - one per kind of request
        match request:
            case protocol.Load(model=model):
                return loaded(model)
            case protocol.Explain(model=model, image=image, target=target, asks=asks):
                return protocol.Explained(id=1, explanation=answered(explained(model, image, target), asks))
            case protocol.WhatIf(model=model, image=image, left_out=left_out):
                before = explained(model, image).predictions
                first = dataclasses.replace(before[0], probability=before[0].probability * 0.9 ** len(left_out))
                return protocol.Reranked(id=1, left_out=left_out, predictions=(first, *before[1:]))
            case protocol.Compare(models=models, image=image, target=target, asks=asks):
                for model in models:
                    tell(self._column(model, image, target, asks))
                return protocol.Done(id=1, count=len(models))
            case protocol.ExplainImages(model=model, images=images):
                for image in images:
                    why = self.failures.get(image)
                    made = None if why is not None else explained(model, image)
                    tell(protocol.ImageExplained(id=1, explanation=made, message=None if why is None else str(why)))
                return protocol.Done(id=1, count=len(images))
            case protocol.ListModels():
                known = entry(REMOTE, "cached" if REMOTE in self.pulled else "remote")
                other = dataclasses.replace(known, input_size=224)
                return protocol.Listed(id=1, models=(*map(entry, FAMILIES), other))
            case protocol.Pull(model=model):
                self.pulled.add(model)
                return protocol.Pulled(id=1, model=entry(model, "cached"))

    def _column(self, model: str, image: str, target: str | None, asks: tuple[str, ...]) -> protocol.ColumnReady:
        failure = self.failures.get(model)
        if failure is not None:
            return protocol.ColumnReady(id=1, model=model, explanation=None, code="model", message=str(failure))
        return protocol.ColumnReady(id=1, model=model, explanation=answered(explained(model, image, target), asks))


VIT, VIT_XS, RN, CNX = MODELS = tuple(FAMILIES)


# Apps.


class TestedApp(ClipmkApp):
    """The app; what it notifies of stays on the screen, and in `notes`."""

    __test__ = False
    CSS_PATH = STYLESHEET

    def __init__(self, options: StartOptions, make_engine: Callable[[], Any]) -> None:
        super().__init__(options, make_engine)
        self.notes: list[str] = []
        self.severities: list[str] = []

    def notify(self, message: str, *, markup: bool = True, severity: Any = "information", **options: Any) -> None:
        assert not markup
        self.notes.append(message)
        self.severities.append(severity)
        super().notify(message, markup=False, severity=severity, **options | {"timeout": 3600})


class Host(OrderedInput):
    """Opens one screen or dialog and keeps its answers and what it notifies of."""

    CSS_PATH = STYLESHEET

    def __init__(self, make: Callable[[], Screen[Any]]) -> None:
        super().__init__()
        self._make = make
        self.answers: list[Any] = []
        self.notes: list[str] = []
        self.severities: list[str] = []
        list(map(self.register_theme, (DARK, LIGHT)))
        self.theme = DARK.name

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return own_variables(dark=self.current_theme.dark)

    def on_mount(self) -> None:
        self.open()

    def open(self) -> None:
        self.push_screen(self._make(), self.answers.append)

    def notify(self, message: str, *, markup: bool = True, severity: Any = "information", **options: Any) -> None:
        assert not markup
        self.notes.append(message)
        self.severities.append(severity)


def compare_state(
    models: tuple[str, ...] = MODELS,
    *,
    known: Mapping[str, Explanation] | None = None,
    image: str = IMAGE,
    target: str | None = None,
    label: str | None = None,
) -> State:
    """A state that shows one image, with some explanations at hand and the models marked."""
    state = State(models[0], marked=models)
    state.entries = tuple(map(entry, models))
    state.open(ImageList((Item(image, label),)))
    state.add_loaded(loaded(models[0]))
    for model, made in (known or {}).items():
        own = made.class_name == made.predictions[0].class_name
        state.keep(made, image, model, None if own else made.class_name)
    state.choose_class(target)
    return state


def compare_host(engine: FakeEngine, models: tuple[str, ...] = MODELS, **options: Any) -> Host:
    """An app around the comparison screen."""
    return Host(lambda: compare_screen(engine, models, **options))


def compare_screen(engine: FakeEngine, models: tuple[str, ...], **options: Any) -> CompareScreen:
    """The comparison screen."""
    session = Session(vocabulary="world", settings=preset("default"))
    state = compare_state(models, **options)
    questions = Questions(engine, state, lambda message: None, session)  # type: ignore[arg-type]
    return CompareScreen(questions, models, state.target)


@asynccontextmanager
async def running(
    engine: FakeEngine,
    *paths: Path | str,
    size: tuple[int, int] = (120, 40),
    models: tuple[str, ...] = (VIT,),
    keys: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[Pilot[Any], MainScreen]]:
    """The app on some images, its first explanation made unless the gate is shut.

    Args:
        engine: answers.
        paths: images and folders.
        size: of the terminal.
        models: the first explains, the others are marked.
        keys: as in the config file.
    """
    session = Session(vocabulary="world", settings=preset("default"))
    bound = parse_keys(keys, BINDING_IDS) if keys else {}
    options = StartOptions(paths=tuple(map(str, paths)), models=models, session=session, keys=bound)
    app = TestedApp(options, lambda: engine)
    async with app.run_test(size=size, notifications=True) as pilot:
        screen = app.screen
        assert isinstance(screen, MainScreen)
        if engine.gate.is_set():
            await settled(pilot)
        else:
            await until(lambda: engine.asked and screen.query("Panes"))
        yield pilot, screen


# Keys.


def burst(pilot: Pilot[Any], *keys: str) -> None:
    """All keys at once, as from a paste or over a slow connection; see `settled`."""
    for key in keys:
        character = key if len(key) == 1 else {"space": " "}.get(key)
        name = key if len(key) > 1 or key.isalnum() else parse_keys({"key": key}, {"key"})["key"]
        pilot.app.post_message(events.Key(name, character))


async def press(pilot: Pilot[Any], *keys: str) -> None:
    """One key after the other, each when all is done that the one before it began."""
    for key in keys:
        burst(pilot, key)
        await settled(pilot)


# Waiting.


async def until(holds: Callable[[], object]) -> None:
    """Wait for a state that something else brings about: a thread, a process, a timer."""
    deadline = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < deadline, f"waited for {LIMIT} s: {holds}"
        await asyncio.sleep(0.002)


async def settled(pilot: Pilot[Any]) -> None:
    """Until no worker has anything to do, every message is processed, and the screen is drawn: twice in a row."""
    quiet = 0
    while quiet < 2 and pilot.app.return_code is None:
        await processed(pilot)
        quiet = quiet + 1 if all(worker.is_finished for worker in pilot.app.workers) else 0


async def processed(pilot: Pilot[Any]) -> None:
    """Until every widget has processed the messages it has now, and the screen is drawn after that."""
    app = pilot.app
    if app.return_code is not None:
        return
    waiting: set[Any] = {app, *app.screen.walk_children(with_self=True)}

    def done(node: Any) -> None:
        waiting.discard(node)

    def passed() -> bool:
        return app.return_code is not None or not any(node.is_running and node.is_attached for node in waiting)

    for node in tuple(waiting):
        node.call_later(done, node)
    await until(passed)
    waiting.add(screen := app.screen)
    screen.call_after_refresh(done, screen)
    await until(lambda: passed() or app.screen is not screen)  # one that another covers is not drawn


# What is on the screen.


def lines(node: App[Any] | Screen[Any]) -> list[str]:
    """The lines on the screen, read from the picture that Textual exports."""
    app = node if isinstance(node, App) else node.app
    picture = app.export_screenshot(simplify=True)
    width, height = app.size
    found = [""] * height
    for x, number, text in re.findall(r'<text [^>]*x="([\d.]+)"[^>]*-line-(\d+)\)">([^<]*)</text>', picture):
        row, written = int(number), html.unescape(text).replace("\xa0", " ").rstrip("\n")
        found[row] += " " * (round(float(x) / CELL) - cell_len(found[row])) + written
    return [row + " " * (width - cell_len(row)) for row in found]


def seen(node: App[Any] | Screen[Any]) -> str:
    """The screen as text."""
    return "\n".join(lines(node))


def line(node: App[Any] | Screen[Any], start: str) -> str:
    """The only line that starts so."""
    (found,) = [one for one in lines(node) if one.strip().startswith(start)]
    return found


def dialog_message(app: App[Any]) -> str:
    """What a dialog says."""
    return str(app.screen.query_one("#message", Static).content)
