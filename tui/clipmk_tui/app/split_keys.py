"""Escape sequences that a slow link splits: their rest arrives as characters, and must run no command."""

from __future__ import annotations

from typing import Final

from textual.events import Key

_LATE: Final = 1.0
"""Seconds after which a character is no longer taken for the rest of a sequence."""

_PARAMETERS: Final = frozenset(map(chr, range(0x20, 0x40)))
"""Characters between the beginning of a control sequence and its final byte."""

_BEGINNINGS: Final = {"escape": "ESC", "left_square_bracket": "[", "alt+shift+o": "ESC O"}
"""Key as which Textual reports the beginning of a split sequence -> what was read; of ``ESC [`` only the bracket."""


class SplitKeys:
    """Recognises the rest of escape sequences among keys."""

    def __init__(self) -> None:
        self._read = ""
        self._time = 0.0

    def is_rest(self, key: Key) -> bool:
        """Whether a key belongs to a sequence whose beginning came too long ago; call it with every key in turn.

        A ``[`` on its own begins a sequence only where parameters follow: it may be the user's.
        """
        read, character = self._read if key.time - self._time < _LATE else "", key.character or ""
        self._time = key.time
        control = (read == "ESC" and character == "[") or (read in {"[", "ESC ["} and character in _PARAMETERS)
        single = read == "ESC" and character == "O"
        final = read in {"ESC [", "ESC O"} and "@" <= character <= "~"
        begun = "" if final else _BEGINNINGS.get(key.key, "")
        self._read = "ESC [" if control else "ESC O" if single else begun
        return control or single or final
