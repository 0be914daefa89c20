"""What is written in place of signs that an encoding lacks: readable, and in as many cells."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

import samples
from clipmk.pipeline.comparison import compare
from clipmk_tui.cli.commands.explain.report import report
from clipmk_tui.cli.streams import DataStream, text_console
from clipmk_tui.show import signs
from clipmk_tui.show.comparison import report as comparison_report
from clipmk_tui.show.signs import ANSI, FAILED, NEITHER, PREDICTED, RIGHT, SIGN, WRONG, encoding_of, readable
from compared import by

ALL = (*SIGN.values(), RIGHT, WRONG, PREDICTED, NEITHER, FAILED)


def test_every_sign_of_a_table_keeps_its_own_letter() -> None:
    written = [readable(sign, "ascii") for sign in ALL]
    assert written == ["*", "o", "+", "-", "=", "x", "@", ".", "!"]
    assert [readable(sign, "latin-1") for sign in SIGN.values()] == ["*", "o", "+", "-"]
    assert len(set(written)) == len(ALL)
    assert set(SIGN) == set(ANSI)


def test_every_sign_of_the_interface_has_a_character_in_as_many_cells() -> None:
    code = Path(signs.__file__).parents[1]
    used = {c for file in code.rglob("*.py") for c in file.read_text(encoding="utf-8") if not c.isascii()}
    assert len(used) > 60
    for character in used:
        written = readable(character, "ascii")
        assert written.isascii()
        assert cell_len(written) == cell_len(character)
        assert "?" not in written, character


def test_letters_lose_their_accents_and_wide_ones_keep_their_width() -> None:
    assert readable("café ∩ 猫", "latin-1") == "café * ??"
    assert readable("café ∩ 猫", "ascii") == "cafe * ??"
    assert readable("café ∩ 猫", "utf-8") == "café ∩ 猫"
    assert readable("╭─▔⣿", "ascii") == "+-#*"


def test_bars_and_sparklines_still_show_heights() -> None:
    assert readable("██▌ ▁▂▃▄▅▆▇█", "ascii") == "##| _.:-=+##"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "utf-8"),
        ({"LANG": "C"}, "ascii"),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, "ascii"),
        ({"LC_ALL": "POSIX", "LANG": "en_GB.UTF-8"}, "ascii"),
        ({"LANG": "C.UTF-8"}, "utf-8"),
        ({"LANG": "C", "LC_ALL": "C.UTF-8"}, "utf-8"),
        ({"LANG": "C", "LC_CTYPE": "de_DE.UTF-8"}, "utf-8"),
        ({"LANG": "C", "PYTHONIOENCODING": "utf-8"}, "utf-8"),
    ],
)
def test_a_c_locale_means_ascii_whatever_python_makes_of_it(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG", "PYTHONIOENCODING", "PYTHONUTF8"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert encoding_of(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) == expected


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_reports_are_readable_in_encodings_without_our_signs(encoding: str) -> None:
    made = compare([by("a"), by("b", predicted="owl")], true_class="fox")
    reader, writer = os.pipe()
    stream = DataStream(writer, encoding=encoding)
    console = text_console(stream)
    console.print(report(samples.explanation(), width=80))
    console.print(comparison_report(made, width=80))
    stream.flush()
    os.close(writer)
    with os.fdopen(reader, encoding=encoding) as file:
        text = file.read()
    assert "?" not in text
    assert "* mutual" in text
    assert "o vision only" in text
    assert "+ language only" in text
    assert "fox (right)" in text
    assert text.count(" = ") >= 1


def test_the_app_writes_only_what_its_terminal_can_show() -> None:
    script = (
        "from clipmk_tui.app.app import ClipmkApp; from textual.driver import Driver\n"
        "from textual.app import App\n"
        "class Fake(Driver):\n"
        "    def write(self, data): print(data)\n"
        "    start_application_mode = stop_application_mode = disable_input = lambda self: None\n"
        "App.get_driver_class = lambda self: Fake\n"
        "app = object.__new__(ClipmkApp)\n"
        "kind = ClipmkApp.get_driver_class(app)\n"
        "kind.write(object.__new__(kind), '∩ ╭─╮ café')\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "PYTHONIO"))}
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment | {"LANG": "C"}, capture_output=True, check=True, text=True
    )
    assert ran.stdout == "* +-+ cafe\n"
