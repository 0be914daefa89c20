"""The app: themes, keys, palette and screens around one engine. Panes and keys are in `screens.main`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from textual import work
from textual.app import SystemCommand
from textual.command import Provider
from textual.driver import Driver
from textual.reactive import Reactive
from textual.screen import Screen
from textual.theme import Theme

from clipmk.errors import ClipmkError
from clipmk.system.config import read_config
from clipmk.system.text import printable
from clipmk_tui.app.bindings import KEY_BINDINGS, keys_of
from clipmk_tui.app.ordered_input import OrderedInput
from clipmk_tui.app.screens.main import MainScreen
from clipmk_tui.app.theme import DARK, LIGHT, own_variables
from clipmk_tui.show.signs import encoding_of, readable

if TYPE_CHECKING:
    from clipmk_tui.app.engine.worker import Engine
    from clipmk_tui.app.start_options import StartOptions


def _providers() -> type[Provider]:
    from clipmk_tui.app.palette import Commands  # noqa: PLC0415 - only when the palette opens

    return Commands


class ClipmkApp(OrderedInput):
    """`clipmk tui`; the engine is made after the first frame."""

    TITLE = "clipmk"
    theme: Reactive[str] = Reactive(DARK.name)
    CSS_PATH = "app.tcss"
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {*OrderedInput.COMMANDS, _providers}
    BINDINGS = KEY_BINDINGS["ClipmkApp"]

    crash: BaseException | None = None  # what ended the app, if it was an error

    def __init__(self, options: StartOptions, make_engine: Callable[[], Engine]) -> None:
        super().__init__()
        self._options = options
        self._make_engine = make_engine
        self._closing_engine: asyncio.Future[None] | None = None
        self._stopping = False  # stopped by `_suspend`: the signal to continue is on its way
        if options.theme in self.available_themes and options.theme != self.theme:  # the stylesheet is parsed again
            self.theme = options.theme
        self.changed_keys = dict(options.keys)  # id of a binding -> its keys, where they are not the defaults
        self.set_keymap(self.changed_keys)

    def get_driver_class(self) -> type[Driver]:
        """The terminal's driver; where its encoding lacks our signs, others are written (see `show.signs.readable`)."""
        chosen, encoding = super().get_driver_class(), encoding_of(sys.__stderr__)
        if encoding.lower().replace("-", "") == "utf8":
            return chosen

        class ReadableDriver(chosen):  # type: ignore[misc, valid-type]
            def write(self, data: str) -> None:
                super().write(readable(data, encoding))

        return ReadableDriver

    @property
    def available_themes(self) -> dict[str, Theme]:
        """Textual's themes and ours."""
        return super().available_themes | {DARK.name: DARK, LIGHT.name: LIGHT}

    def get_default_screen(self) -> Screen[None]:
        """The main screen."""
        return MainScreen(self._options, lambda: self.engine)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our colours under themes that are not ours."""
        return own_variables(dark=self.current_theme.dark)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Of Textual's commands, themes and quit."""
        for command in super().get_system_commands(screen):
            if command.title in {"Theme", "Quit"}:
                yield command

    def on_mount(self) -> None:
        """Save a theme when it is chosen."""
        self.theme_changed_signal.subscribe(self, lambda theme: self._keep_theme(theme.name))
        if not self.is_headless:
            loop = asyncio.get_running_loop()  # Textual's own handlers leave two threads that read the keys
            signal.signal(signal.SIGTSTP, lambda *_: loop.call_soon_threadsafe(self.call_later, self._suspend))
            signal.signal(signal.SIGCONT, lambda *_: loop.call_soon_threadsafe(self.call_later, self._resume))

    @cached_property
    def engine(self) -> Engine:
        """What answers questions."""
        return self._make_engine()

    def bell(self) -> None:
        """Ring; Textual rings when the app crashes, while it handles the error, which is kept."""
        self.crash = self.crash or sys.exc_info()[1]
        super().bell()

    def notify(self, message: str, *, markup: bool = False, **options: Any) -> None:
        """Show a message in place of the one before it; names in it come from outside and are no markup."""
        self.call_later(self.clear_notifications)
        super().notify(message, markup=markup, **options)

    async def close_engine(self) -> None:
        """Close the engine, if there is one; no process is left."""
        if "engine" in vars(self):
            await self.engine.close()

    async def on_unmount(self) -> None:
        """Close the engine however the app ends."""
        await (self._closing_engine or self.close_engine())

    async def action_quit(self) -> None:
        """Quit at once: the engine is closed while the terminal is restored."""
        self._closing_engine = asyncio.ensure_future(self.close_engine())
        self.exit(0)

    def action_command_palette(self) -> None:
        """Find anything by name."""
        from clipmk_tui.app.palette import Palette  # noqa: PLC0415

        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette"))

    def search_themes(self) -> None:
        """Choose a theme by name."""
        from textual.theme import ThemeProvider  # noqa: PLC0415

        from clipmk_tui.app.palette import Palette  # noqa: PLC0415

        self.push_screen(Palette(providers=[ThemeProvider], placeholder="Search for themes…"))

    def action_redraw(self) -> None:
        """Draw everything again: something else may have written to the terminal."""
        self.refresh(layout=True)

    def action_suspend_process(self) -> None:
        """Stop until the shell continues the job; where no shell could, the system ignores it."""
        if not self.is_headless:
            os.kill(0, signal.SIGTSTP)  # the whole group: a program that has started this one stops, too

    def _suspend(self) -> None:
        with self.suspend():
            ours = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            self._stopping = True
            os.kill(os.getpid(), signal.SIGTSTP)
            signal.signal(signal.SIGTSTP, ours)

    def _resume(self) -> None:
        """Prepare the terminal and draw again, unless `_suspend` has done so."""
        if not self._stopping:
            with self.suspend():
                pass
        self._stopping = False

    def action_help_quit(self) -> None:
        """Ctrl+c is pressed by who wants to stop something."""
        quits, cancels = keys_of(self, "app.quit"), keys_of(self.screen_stack[0], "main.cancel")
        self.notify(f"{quits} quits, {cancels} cancels what is being worked on", markup=False)

    def action_help(self) -> None:
        """Explain the focused pane and its keys."""
        from clipmk_tui.app.screens.help import HelpScreen, help_for  # noqa: PLC0415

        if not isinstance(self.screen, HelpScreen):  # pressed twice in one burst
            self.push_screen(help_for(self.screen))

    def _keep_theme(self, name: str) -> None:
        """Keep a theme that the palette chose; the settings dialog only tries them, and keeps one itself."""
        from clipmk_tui.app.screens.settings import SettingsScreen  # noqa: PLC0415

        if not isinstance(self.screen, SettingsScreen):
            self._save_theme(name)

    @work(group="preferences")
    async def _save_theme(self, name: str) -> None:
        """Write a theme to the config, unless it is there already."""
        try:
            if name != (read_config().theme or DARK.name):
                from clipmk.system.preferences import save  # noqa: PLC0415 - tomlkit

                await asyncio.to_thread(save, {"theme": name})
        except (ClipmkError, OSError) as error:
            message = f"the theme is not kept: {printable(str(error))}"
            self.notify(message, severity="warning", timeout=10, markup=False)
