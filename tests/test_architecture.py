"""The house: which room may import which, no circles, a docstring at every door."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"clipmk": ROOT / "core" / "clipmk", "clipmk_tui": ROOT / "tui" / "clipmk_tui"}
LEAVES = {"clipmk.errors", "clipmk.version", "clipmk.settings", "clipmk.records", "clipmk.comparison"}
TABLES = {"clipmk.concepts.part_methods"}
"""Leaves may read them: they name what code a room has, so that a setting has its choices, and import it on use."""
FLOORS = (
    {"browse"},
    {"study", "evaluate", "worker"},
    {"pipeline"},
    {"vocabulary", "models", "datasets"},
    {"backbones", "concepts", "images", "world", "output"},
    {"system"},
)
"""Rooms of core from the top floor down: no room imports one on a floor above."""


def modules() -> dict[str, Path]:
    found = {}
    for name, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((name, *parts)).removesuffix(".__init__")] = path
    return found


def imported_by(name: str, tree: ast.AST, known: dict[str, Path]) -> set[str]:
    """Our modules that a module imports anywhere: lazily and for type checkers, too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            found |= {
                full if (full := f"{node.module}.{alias.name}") in known else str(node.module) for alias in node.names
            }
    return found & known.keys()


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    known = modules()
    return {
        name: imported_by(name, ast.parse(path.read_text(encoding="utf-8")), known) - {name}
        for name, path in known.items()
    }


def room_of(name: str) -> str:
    """`clipmk.images.masks` -> `images`; of a module that lies flat, its own name."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else name


@pytest.mark.parametrize("package", ["clipmk", "clipmk_tui"])
def test_no_module_imports_itself_by_a_detour(arrows: dict[str, set[str]], package: str) -> None:
    known = {name for name in arrows if name.split(".")[0] == package} - {
        "clipmk"
    }  # its names are resolved on first use
    doors = {name: arrows[name] & known for name in known}
    circle: list[str] = []
    try:
        TopologicalSorter(doors).prepare()
    except CycleError as error:
        circle = error.args[1]
    assert circle == []


def test_core_knows_nothing_of_the_terminal(arrows: dict[str, set[str]]) -> None:
    wrong = [
        (name, target)
        for name, targets in arrows.items()
        for target in targets
        if name.split(".")[0] == "clipmk" and target.split(".")[0] == "clipmk_tui"
    ]
    assert wrong == []


def test_the_app_and_the_command_line_are_apart_and_share_only_what_both_draw(arrows: dict[str, set[str]]) -> None:
    allowed = {"app": {"app", "show"}, "cli": {"cli", "show"}, "show": {"show"}}
    wrong = sorted(
        (name, target)
        for name, targets in arrows.items()
        for target in targets
        if name.startswith("clipmk_tui.")
        and target.startswith("clipmk_tui.")
        and name.count(".") > 1
        and room_of(target) not in allowed[room_of(name)]
        and not (name == "clipmk_tui.cli.commands.tui" and room_of(target) == "app")
    )
    assert wrong == []


def test_rooms_of_core_import_only_downwards(arrows: dict[str, set[str]]) -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    wrong = sorted(
        (name, target)
        for name, targets in arrows.items()
        for target in targets
        if (room := room_of(name)) in floor and floor.get(room_of(target), len(FLOORS)) < floor[room]
    )
    assert wrong == []


def test_leaves_import_only_leaves(arrows: dict[str, set[str]]) -> None:
    allowed = {*LEAVES, "clipmk.system.text"}
    wrong = sorted((name, target) for name in allowed for target in arrows[name] if target not in allowed | TABLES)
    assert wrong == []
    beyond = sorted((name, target) for name in TABLES for target in arrows[name] if room_of(target) != room_of(name))
    assert beyond == []


def test_few_modules_lie_flat() -> None:
    most = {"clipmk": 8, "clipmk_tui": 3}
    for name, folder in PACKAGES.items():
        flat = sorted(path.name for path in folder.glob("*.py"))
        assert len(flat) <= most[name], flat


def test_every_room_says_what_is_in_it_and_holds_no_code() -> None:
    for folder in PACKAGES.values():
        for path in sorted({path.parent for path in folder.rglob("*.py")} - {folder}):
            body = ast.parse((path / "__init__.py").read_text(encoding="utf-8")).body
            assert body, f"{path} has no docstring"
            assert isinstance(body[0], ast.Expr), f"{path} has no docstring"
            assert len(body) == 1, f"{path / '__init__.py'} holds code: one name has one address"
