"""The settings dialog: theme, preset, grounding, seed, start model, vocabulary; kept in the user's config file."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.suggester import SuggestFromList
from textual.widgets import Button, Input, Select, Static

from clipmk.errors import UsageError
from clipmk.settings import PRESETS, Grounding
from clipmk.settings import preset as settings_of
from clipmk.system.config import DEFAULT_MODEL, read_config
from clipmk.system.locations import config_path
from clipmk.system.text import printable, quoted
from clipmk.vocabulary.vocabulary import available, load_vocabulary
from clipmk.worker.session import Session
from clipmk_tui.app.bindings import KEY_BINDINGS, keys_of
from clipmk_tui.app.screens.dialog import Dialog

_CHOICES = ("theme", "preset", "grounding", "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """What the dialog shows and changes."""

    theme: str
    preset: str
    grounding: str
    seed: str
    """As typed."""
    model: str
    """Start model; used from the next start on."""
    vocabulary: str
    """Name or file."""


class SettingsScreen(Dialog[Session | None]):
    """Change what the config keeps. Themes are shown at once; the result is the session to go on with."""

    BINDINGS = KEY_BINDINGS["SettingsScreen"]

    def __init__(self, session: Session, *, models: Sequence[str] = ()) -> None:
        super().__init__()
        self._session, self._models = session, models
        try:
            model = read_config().model
        except UsageError:  # reported when it is written
            model = None
        self._before = Preferences(
            theme=self.app.theme,
            preset=session.settings.preset,
            grounding=session.settings.grounding,
            seed=str(session.settings.seed),
            model=model or DEFAULT_MODEL,
            vocabulary=session.vocabulary or "",
        )
        self._preset = session.settings.preset

    def compose(self) -> ComposeResult:
        """A line for each choice."""
        before = self._before
        saves, cancels = keys_of(self, "settings.save"), keys_of(self, "settings.cancel")
        with self.box("settings", f"tab next · enter chooses · {saves} saves · {cancels} cancels"):
            yield from _line("theme", _choice("theme", self.app.available_themes, before.theme))
            yield from _line("preset", _choice("preset", PRESETS, before.preset))
            yield from _line("grounding", _choice("grounding", get_args(Grounding), before.grounding))
            yield from _line("seed", Input(before.seed, type="integer", id="seed", select_on_focus=False))
            yield from _line("start model", _choice("model", self._models, before.model))
            names = SuggestFromList(available(), case_sensitive=False)
            field = Input(before.vocabulary, suggester=names, id="vocabulary", select_on_focus=False)
            field.placeholder = "a name or a JSON file"
            yield from _line("vocabulary", field)
            yield Static(id="message")
            yield Button("Save", id="save", variant="primary", compact=True)
            yield Static(Content(f"kept in {quoted(config_path())}; keys can be changed there, too"), id="where")

    def on_mount(self) -> None:
        """Begin with the first choice."""
        self.query_one("#theme", Select).focus()

    @on(Select.Changed)
    def _try_choice(self, event: Select.Changed) -> None:
        """Show a theme at once; a preset brings its own grounding along."""
        event.stop()
        value = event.value
        if not isinstance(value, str):
            return
        if event.select.id == "theme" and value != self.app.theme:
            self.app.theme = value
        elif event.select.id == "preset" and value != self._preset:
            self._preset = value
            self.query_one("#grounding", Select).value = PRESETS[value].grounding

    @on(Input.Submitted)
    @on(Button.Pressed)
    def action_save(self) -> None:
        """Write what was changed, and close."""
        values = {name: str(self.query_one(f"#{name}", Select).value) for name in _CHOICES}
        fields = {name: self.query_one(f"#{name}", Input).value.strip() for name in ("seed", "vocabulary")}
        self.close_with(partial(self._save, Preferences(**values, **fields)), "saving ...")

    def action_cancel(self) -> None:
        """Leave everything as it was."""
        if self._busy:
            return
        self.app.theme = self._before.theme
        self.dismiss(None)

    def _save(self, chosen: Preferences) -> Session:
        session = changed_session(self._session, chosen)
        if changes := changed_keys(self._before, chosen):
            from clipmk.system.preferences import save  # noqa: PLC0415 - tomlkit, filelock

            save(changes)
        return session


def changed_keys(before: Preferences, after: Preferences) -> dict[str, str | int | None]:
    """What is written to the config file: no grounding that is the preset's own, a file with its absolute path."""
    changes: dict[str, str | int | None] = {}
    for name in ("theme", "preset", "model"):
        if getattr(after, name) != getattr(before, name):
            changes[name] = getattr(after, name)
    if (after.preset, after.grounding) != (before.preset, before.grounding):
        own = PRESETS[after.preset].grounding
        changes["settings.grounding"] = None if after.grounding == own else after.grounding
    if after.seed != before.seed:
        changes["seed"] = int(after.seed)
    if after.vocabulary != before.vocabulary:
        is_name = after.vocabulary in available()
        changes["vocabulary"] = after.vocabulary if is_name else os.path.abspath(os.path.expanduser(after.vocabulary))  # noqa: PTH100, PTH111
    return changes


def changed_session(session: Session, chosen: Preferences) -> Session:
    """The session under the chosen preferences; raises `UsageError` or `VocabularyError` for unusable ones."""
    try:
        seed = int(chosen.seed)
    except ValueError as reason:
        raise UsageError(f"seed {quoted(chosen.seed)} must be a whole number") from reason
    if chosen.vocabulary != session.vocabulary:
        load_vocabulary(chosen.vocabulary)
    settings = session.settings
    if chosen.preset != settings.preset:
        settings = settings_of(chosen.preset, prediction_count=settings.prediction_count)
    settings = dataclasses.replace(settings, grounding=chosen.grounding, seed=seed)  # type: ignore[arg-type]
    return dataclasses.replace(session, settings=settings, vocabulary=chosen.vocabulary)


def _line(label: str, control: Select[str] | Input) -> ComposeResult:
    with Horizontal():
        yield Static(label, classes="label", markup=False)
        yield control


def _choice(name: str, values: Iterable[str], value: str) -> Select[str]:
    known = sorted(values) if name == "theme" else list(values)
    known += [] if value in known else [value]
    options = [(Content(printable(one)), one) for one in known]
    return Select(options, value=value, allow_blank=False, compact=True, id=name)
