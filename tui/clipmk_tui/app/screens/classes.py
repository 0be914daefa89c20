"""The dialog for vocabulary and classes: what a model chooses from, and the descriptors that explain its choice."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from functools import partial

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.suggester import SuggestFromList
from textual.widgets import Input, OptionList, Static, TextArea
from textual.widgets.option_list import Option
from textual.worker import WorkerError

from clipmk.errors import ClipmkError, VocabularyError
from clipmk.system.text import counted, printable, quoted
from clipmk.vocabulary.classes import parse_class_lines, parse_classes
from clipmk.vocabulary.vocabulary import Vocabulary, available, load_vocabulary
from clipmk.worker.session import Session
from clipmk_tui.app.bindings import KEY_BINDINGS, keys_of
from clipmk_tui.app.folder_choices import keep_choice
from clipmk_tui.app.screens.dialog import Dialog


class ClassesScreen(Dialog[Session | None]):
    """Closes with the session to go on with, or with None. What is chosen is kept for the folder.

    With `adding` it begins with one more class, which is used at once.
    """

    BINDINGS = KEY_BINDINGS["ClassesScreen"]

    def __init__(self, session: Session, *, folder: str, adding: bool = False) -> None:
        super().__init__()
        self._session, self._folder, self._adding = session, folder, adding
        self._loaded: tuple[str, ...] = ()
        """The classes that were put into the text; while nobody has changed them, another vocabulary replaces them."""
        self._shipped = available()
        self._named = Input(session.vocabulary or "", id="vocabulary", select_on_focus=False)
        self._named.suggester = SuggestFromList(self._shipped, case_sensitive=False)
        self._named.placeholder = "a name or a JSON file"
        self._list = OptionList(id="vocabularies", markup=False)
        self._classes_text = TextArea(id="classes", show_line_numbers=True, compact=True)
        self._added = Input(id="added", placeholder="add a class: type it, then enter", select_on_focus=False)

    def compose(self) -> ComposeResult:
        """The vocabulary and those to choose from, the classes, one more class."""
        saves, cancels = keys_of(self, "classes.save"), keys_of(self, "classes.cancel")
        with self.box("classes and vocabulary", f"tab next · {saves} uses them · {cancels} cancels"):
            with Horizontal():
                yield Static("vocabulary", classes="label", markup=False)
                yield self._named
            yield self._list
            yield Static("classes, one a line", classes="label", markup=False)
            yield self._classes_text
            yield self._added
            yield Static(id="message")
            stays = f"stays the next time you open these images; {keys_of(self, 'classes.reset')} resets the classes"
            where = f"{stays}\n{printable(self._folder)}"
            yield Static(Text(where, overflow="ellipsis", no_wrap=True), id="where", markup=False)

    def on_mount(self) -> None:
        """Begin with the vocabularies, the current one under the cursor."""
        for name, words in self._shipped.items():
            line = Text.assemble((f"{name:<12}", "bold"), printable(words), no_wrap=True, overflow="ellipsis")
            self._list.add_option(Option(line))
        names = list(self._shipped)
        with self.prevent(OptionList.OptionHighlighted):
            self._list.highlighted = names.index(self._named.value) if self._named.value in names else 0
        (self._added if self._adding else self._list).focus()
        self._first = self._load(first=True)

    @on(OptionList.OptionSelected)
    def _choose_shipped(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._named.value = list(self._shipped)[event.option_index]
        self._load()

    @on(Input.Submitted, "#vocabulary")
    def _choose_named(self, event: Input.Submitted) -> None:
        event.stop()
        self._load()

    @on(Input.Submitted, "#added")
    async def _add(self, event: Input.Submitted) -> None:
        """Append what was typed to the classes."""
        event.stop()
        with contextlib.suppress(WorkerError):
            await self._first.wait()
        if name := event.value.strip():
            text = self._classes_text.text.rstrip("\n")
            self._classes_text.text = f"{text}\n{name}" if text else name
            self._classes_text.move_cursor(self._classes_text.document.end)
            event.input.clear()
            if self._adding:
                await self._close_with(self._chosen())  # the next key finds the screen below

    @on(TextArea.Changed)
    def _check(self) -> None:
        """Say how many classes there are, or what is wrong with them."""
        try:
            found = parse_class_lines(self._classes_text.text)
        except VocabularyError as error:
            self.say(str(error), "$error")
        else:
            own = "the vocabulary's own " if found.names == self._loaded else ""
            self.say("; ".join([f"{own}{counted(len(found.names), 'class', 'classes')}", *found.notes]))

    @work(group="vocabulary", exclusive=True)
    async def _load(self, *, first: bool = False) -> None:
        """Show the classes of the vocabulary, unless the user has changed them; at first those of the session."""
        try:
            vocabulary = await asyncio.to_thread(load_vocabulary, self._named.value.strip())
            names, session = vocabulary.classes, self._session
            if first:
                names = (*await asyncio.to_thread(_listed, session, vocabulary), *session.added_classes)
        except ClipmkError as error:
            self.say(str(error), "$error")
            return
        changed = bool(self._loaded) and tuple(self._classes_text.text.splitlines()) != self._loaded
        self._loaded = vocabulary.classes
        if changed:
            self.say(f"the classes stay as you have changed them; {quoted(vocabulary.name)} describes them")
        else:
            self._classes_text.text = "\n".join(names)

    def action_reset(self) -> None:
        """Show the vocabulary's own classes again."""
        self._loaded = ()
        self._load()

    def action_save(self) -> None:
        """Use and keep what is chosen."""
        self.close_with(self._chosen(), "checking ...")

    def _chosen(self) -> Callable[[], Session]:
        named, text = self._named.value.strip(), self._classes_text.text
        return partial(chosen_session, self._session, named, text, folder=self._folder, adding=self._adding)


def chosen_session(session: Session, named: str, text: str, *, folder: str, adding: bool = False) -> Session:
    """The session with a vocabulary and a list of classes, one a line, kept for the folder; raises what is wrong."""
    vocabulary = load_vocabulary(named)
    names = parse_class_lines(text).names
    own = names == vocabulary.classes
    if not own:
        vocabulary.with_classes(names)
    kept = keep_choice(folder, named, None if own else names)
    if adding and named == session.vocabulary:  # no model is loaded and no image encoded again
        before = _listed(session, vocabulary)
        return dataclasses.replace(session, added_classes=tuple(name for name in names if name not in before))
    return dataclasses.replace(session, vocabulary=kept.vocabulary, classes=kept.classes, added_classes=())


def _listed(session: Session, vocabulary: Vocabulary) -> tuple[str, ...]:
    """The classes of a session before some are added."""
    return vocabulary.classes if session.classes is None else parse_classes(session.classes).names
