"""The dialog that writes an explanation to a file: what, and under which name."""

import asyncio
from pathlib import Path
from typing import Final

from textual import on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, Static

from clipmk.errors import ClipmkError
from clipmk.explanation import Explanation
from clipmk.system.text import printable, quoted, slug
from clipmk_tui.app.bindings import KEY_BINDINGS, keys_of
from clipmk_tui.app.exports import KINDS, Kind, export
from clipmk_tui.app.screens.dialog import Dialog

WORDS: Final[dict[Kind, str]] = {
    "json": "everything, as clipmk explain --json prints it",
    "png": "the picture with its parts",
    "html": "a page with picture, numbers and concepts",
}


def file_name(explanation: Explanation, kind: Kind) -> str:
    """``<image>-<model>.<kind>``, of letters that any file system takes."""
    image, model = explanation.image.path or "image", explanation.model.id.rpartition("/")[2]
    return f"{slug(Path(image).stem)}-{slug(model)}.{kind}"


class WriteScreen(Dialog[Path | None]):
    """Choose what to write and where; closes with the file written, or with None: closing ends the writing.

    `image` and `asked` are those of `export`.
    """

    BINDINGS = KEY_BINDINGS["WriteScreen"]

    def __init__(self, explanation: Explanation, *, image: str, asked: str | None = None) -> None:
        super().__init__()
        self._explanation, self._image, self._asked = explanation, image, asked
        self._kind: Kind = KINDS[0]
        self._agreed: str | None = None  # the name of an existing file that the user was warned about

    def compose(self) -> ComposeResult:
        """Kinds, name, message."""
        hint = f"{self._kind_keys} kind · enter writes · {keys_of(self, 'write.cancel')} cancels"
        with self.box("write this explanation", hint):
            yield Static(id="kinds")
            yield Input(file_name(self._explanation, self._kind), select_on_focus=False, id="name")
            yield Static(id="message")

    def on_mount(self) -> None:
        """Focus the name, the cursor before its ending."""
        self._show_kinds()
        self.say(_folder())
        field = self.query_one(Input)
        field.cursor_position = len(Path(field.value).stem)
        field.focus()

    def action_kind(self, by: int) -> None:
        """Another kind; the name's ending follows."""
        if self._busy:
            return
        before, self._kind = self._kind, KINDS[(KINDS.index(self._kind) + by) % len(KINDS)]
        field = self.query_one(Input)
        stem = field.value.removesuffix(f".{before}")
        field.value = f"{stem}.{self._kind}"
        field.cursor_position = len(stem)
        self._show_kinds()

    @on(Input.Changed)
    def _forget_agreement(self, event: Input.Changed) -> None:
        event.stop()
        if self._agreed is not None and event.value != self._agreed:
            self._agreed = None
            self.say(_folder())

    @on(Input.Submitted)
    def action_save(self) -> None:
        """Write; a file that exists is replaced only if this is asked for twice."""
        if self._busy:
            return
        name = self.query_one(Input).value.strip()
        if name.lower().endswith(2 * f".{self._kind}"):  # typed in front of the ending that stood there
            name = self.query_one(Input).value = name[: -len(f".{self._kind}")]
        if not name or "\0" in name:
            self.say("a file name is needed", "$error")
        elif not name.lower().endswith(f".{self._kind}"):
            self.say(f"{quoted(name)} must end in .{self._kind}; {self._kind_keys} choose another kind", "$error")
        else:
            self._busy = True
            self._write_file(name)

    @work(group="write")
    async def _write_file(self, name: str) -> None:
        try:
            path = Path(name).expanduser()
            if self._agreed != name and await asyncio.to_thread(path.exists):
                self._agreed = name
                self.say(f"{quoted(name)} exists; enter again replaces it", "$warning")
                return
            self.say("writing ...")
            await export(self._explanation, self._kind, path, image=self._image, asked=self._asked)
        except (ClipmkError, OSError, RuntimeError) as error:  # RuntimeError: the home folder does not exist
            self.say(str(error), "$error")
            return
        finally:
            self._busy = False
        self.app.notify(f"written: {printable(str(path))}", markup=False)
        self.dismiss(path)

    @property
    def _kind_keys(self) -> str:
        return keys_of(self, "write.kind_before", "write.kind_after")

    def _show_kinds(self) -> None:
        mapped = {} if self._asked is None else {"png": f'the picture with the map of "{printable(self._asked)}"'}
        rows = [
            Content.assemble(
                ("● " if kind == self._kind else "○ ", "$primary"),
                (f"{kind.upper():<5}", "bold" if kind == self._kind else ""),
                (f" {words}", "dim"),
            )
            for kind, words in (WORDS | mapped).items()
        ]
        self.query_one("#kinds", Static).update(Content("\n").join(rows))


def _folder() -> str:
    """Where a name without a folder is written to."""
    try:
        return f"in {quoted(Path.cwd())}"
    except OSError:
        return "the working folder does not exist any more; type an absolute path"
