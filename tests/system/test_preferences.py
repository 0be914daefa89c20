from __future__ import annotations

import os
import stat
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipmk.errors import ClipmkError, UsageError
from clipmk.system import preferences
from clipmk.system.config import read_config
from clipmk.system.preferences import save

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the config file."""
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "clipmk" / "config.toml"))
    return tmp_path / "clipmk" / "config.toml"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode())


def test_the_first_change_creates_folder_and_file(path: Path) -> None:
    config = save({"theme": "clipmk-light", "settings.grounding": "attend", "keys.tree.leave_out": "d"})
    assert config == read_config()
    assert (config.theme, dict(config.settings)) == ("clipmk-light", {"grounding": "attend"})
    assert dict(config.keys) == {"tree.leave_out": "d"}
    assert '"tree.leave_out" = "d"' in path.read_text(encoding="utf-8")


@posix
def test_new_folder_and_file_are_private_and_an_old_file_keeps_its_mode(path: Path) -> None:
    save({"seed": 1})
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    save({"seed": 2})
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_comments_order_and_other_keys_stay(path: Path) -> None:
    _write(
        path,
        '# mine\ntheme = "a"  # looks\nseed = 1\n\n[models]\n# at work\nvit = "embedded/vit-s8"\n\n'
        '[keys]\n"app.quit" = "Q"\n',
    )
    save({"theme": "b", "preset": "paper", "models.rn.small": "embedded/rn-s"})
    assert path.read_text(encoding="utf-8") == (
        '# mine\ntheme = "b"  # looks\nseed = 1\npreset = "paper"\n\n[models]\n# at work\nvit = "embedded/vit-s8"\n'
        '"rn.small" = "embedded/rn-s"\n\n[keys]\n"app.quit" = "Q"\n'
    )


@pytest.mark.parametrize(
    "text",
    [
        'settings.grounding = "prompts"\nsettings.seed = 3\n',
        'settings = {grounding = "prompts", seed = 3}\n',
        '[settings]\ngrounding = "prompts"\nseed = 3\n[keys]\na = "b"\n',
        '\ufeff[settings]\r\ngrounding = "prompts"\r\nseed = 3\r\n',
    ],
)
def test_every_way_to_write_a_table_can_be_changed(path: Path, text: str) -> None:
    _write(path, text)
    keys = dict(read_config().keys)
    config = save({"settings.grounding": "attend", "settings.part_count": 4, "theme": "x"})
    assert dict(config.settings) == {"grounding": "attend", "seed": 3, "part_count": 4}
    assert (config.theme, dict(config.keys)) == ("x", keys)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf") == text.startswith("\ufeff")


def test_none_removes_a_key_that_may_be_missing(path: Path) -> None:
    _write(path, 'theme = "a"\n[keys]\n"app.quit" = "Q"\n')
    config = save({"theme": None, "keys.app.quit": None, "settings.seed": None, "model": None})
    assert config.theme is None
    assert dict(config.keys) == {}
    assert "settings" not in path.read_text(encoding="utf-8")


def test_a_change_to_the_same_value_leaves_the_file(path: Path) -> None:
    _write(path, 'theme  =  "a"\nquiet = true\n')
    before = path.stat()
    save({"theme": "a", "quiet": True, "seed": None})
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("theme = ", "is not TOML"),
        ('themes = "a"', "line 1: themes is not a config key; close: 'theme'"),
        ("keys = 3", "must be a table"),
        ("[keys]\ntree.quit = 'x'", "must be text in quotes"),
    ],
)
def test_malformed_file_is_refused_as_on_reading_and_left_untouched(path: Path, text: str, message: str) -> None:
    _write(path, text)
    with pytest.raises(UsageError, match=message):
        save({"theme": "b"})
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thene": "b"}, "thene is not a config key; close: 'theme'"),
        ({"seed": "three"}, "seed is 'three'; it must be a whole number"),
        ({"settings.grounding": "magic"}, "settings.grounding is 'magic'; it must be one of: prompts, attend"),
        ({"settings.no_such": 3}, "settings.no_such is not a setting"),
        ({"theme": "\udcff"}, "is not UTF-8"),
    ],
)
def test_change_that_would_break_the_file_is_refused(path: Path, changes: dict[str, Any], message: str) -> None:
    _write(path, "seed = 1\n")
    with pytest.raises(UsageError, match=message):
        save({"quiet": True, **changes})
    assert path.read_text(encoding="utf-8") == "seed = 1\n"


def test_a_refused_first_change_leaves_no_file(path: Path) -> None:
    with pytest.raises(UsageError):
        save({"seed": "three"})
    assert not path.exists()


def test_two_apps_do_not_lose_each_others_changes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preferences, "LOCK_SECONDS", 60.0)  # they queue for the lock, on a machine that may be slow
    names = [f"keys.pane.action{number}" for number in range(12)]
    threads = [threading.Thread(target=save, args=({name: "x"},)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {f"keys.{name}" for name in read_config().keys} == set(names)


def test_a_file_that_another_process_keeps_locked_is_an_error_after_a_while(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    monkeypatch.setattr(preferences, "LOCK_SECONDS", 0.05)
    with FileLock(path.with_name("config.toml.lock")), pytest.raises(ClipmkError, match="by another process"):
        save({"seed": 1})


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "file" / "config.toml"))
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ClipmkError, match=r"config '.*file/config.toml' cannot be written: "):
        save({"seed": 1})


@posix
def test_link_to_the_file_stays_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, link = tmp_path / "dotfiles.toml", tmp_path / "config.toml"
    real.write_text("seed = 1\n", encoding="utf-8")
    link.symlink_to(real)
    monkeypatch.setenv("CLIPMK_CONFIG", str(link))
    save({"seed": 2})
    assert link.is_symlink()
    assert real.read_text(encoding="utf-8") == "seed = 2\n"


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
CHANGES = st.dictionaries(
    st.sampled_from(["theme", "model", "vocabulary", "classes"])
    | NAMES.map(lambda name: f"keys.{name}")
    | NAMES.map(lambda name: f"models.{name}"),
    st.none() | TEXTS,
    max_size=6,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(first=CHANGES, second=CHANGES)
def test_any_text_under_any_key_is_read_back_as_it_was_given(
    path: Path, first: dict[str, str | None], second: dict[str, str | None]
) -> None:
    path.unlink(missing_ok=True)
    save(first)
    save(second)
    expected: dict[str, Any] = {}
    for name, value in (first | second).items():
        head, dot, rest = name.partition(".")
        if value is not None and dot:
            expected.setdefault(head, {})[rest] = value
        elif value is not None:
            expected[name] = value
    stored = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    assert {key: value for key, value in stored.items() if value != {}} == expected
