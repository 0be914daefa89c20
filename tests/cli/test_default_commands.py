from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from clipmk.errors import UsageError
from clipmk_tui.cli.default_commands import with_default_command
from clipmk_tui.cli.main import COMMANDS, build

pytestmark = pytest.mark.usefixtures("clean")


def root(first: str) -> Any:
    return typer.main.get_command(build(first))


def completed_by(arguments: list[str]) -> list[str]:
    return with_default_command(arguments, root(arguments[0]))


@pytest.mark.parametrize(
    ("given", "completed"),
    [
        (["models"], ["models", "list"]),
        (["models", "vit"], ["models", "list", "vit"]),
        (["models", "--json"], ["models", "list", "--json"]),
        (["models", "info", "x"], ["models", "info", "x"]),
        (["models", "--help"], ["models", "--help"]),
        (["vocab"], ["vocab", "list"]),
        (["cache"], ["cache", "info"]),
        (["models", "ifno"], ["models", "list", "ifno"]),
        (["study", "report", "x"], ["study", "report", "x"]),
        (["study", "photos"], ["study", "run", "photos"]),
        (["study", "report.csv"], ["study", "run", "report.csv"]),
        (["study", "./reprot"], ["study", "run", "./reprot"]),
        (["study", "world:test"], ["study", "run", "world:test"]),
        (["study", "-m", "x", "reprot"], ["study", "run", "-m", "x", "reprot"]),
        (["explain", "models"], ["explain", "models"]),
    ],
)
def test_omitted_commands_are_added(given: list[str], completed: list[str]) -> None:
    assert completed_by(given) == completed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "study reprot x",
            "'reprot' is not a command of `clipmk study` and not a dataset; did you mean `clipmk study report`?",
        ),
        (
            "study Report",
            "'Report' is not a command of `clipmk study` and not a dataset; did you mean `clipmk study report`?",
        ),
        ("study rnu photos", "did you mean `clipmk study run`?"),
        ("vocab shwo pets", "'shwo' is not a command of `clipmk vocab`; did you mean `clipmk vocab show`?"),
        ("info x", "'info' is not a command of `clipmk`; did you mean `clipmk models info` or `clipmk cache info`?"),
        ("pull x", "'pull' is not a command of `clipmk`; did you mean `clipmk models pull`?"),
        ("cache claer", "'claer' is not a command of `clipmk cache`; did you mean `clipmk cache clear`?"),
    ],
)
def test_a_misspelt_command_is_not_an_argument_of_the_default_command(given: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        completed_by(given.split())


def test_no_command_of_a_group_has_the_name_of_another_command() -> None:
    groups = [command.commands for command in root("--help").commands.values() if hasattr(command, "commands")]
    assert len(groups) == 5
    for group in groups:
        assert set(group).isdisjoint(COMMANDS)


@pytest.mark.parametrize("name", ["models", "vocab"])
def test_the_docs_name_the_commands_of_a_group_after_it(name: str) -> None:
    docs = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    commands = r"\|".join(root(name).commands[name].commands)
    assert f"| `clipmk {name} [{commands}]` |" in docs


def test_an_existing_path_is_a_data_set_whatever_its_name() -> None:
    Path("reprot").mkdir()
    assert completed_by(["study", "reprot"]) == ["study", "run", "reprot"]
