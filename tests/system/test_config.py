"""The config file: what it may hold, and where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipmk.errors import UsageError
from clipmk.settings import preset
from clipmk.system.config import Config, read_config
from clipmk.system.preferences import save


def write_config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_bytes(text.encode())
    return path


def test_a_missing_config_sets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "none.toml"))
    assert read_config() == Config()


def test_a_config_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """\ufeffmodel = "fox"
seed = 3
quiet = true
[models]
fox = "embedded/vit-s8"
[settings]
part_count = 7
score_scale = 2
relevance = "median"
language_count = 8
[keys]
quit = "ctrl+q"
"""
    monkeypatch.setenv("CLIPMK_CONFIG", str(write_config(tmp_path, text)))
    config = read_config()
    assert (config.model, config.seed, config.quiet) == ("fox", 3, True)
    assert config.models == {"fox": "embedded/vit-s8"}
    assert config.keys == {"quit": "ctrl+q"}
    assert preset("default", **config.settings).part_count == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed = 1\nmodel = fox\n", r"is not TOML: Invalid value \(at line 2, column 9\)"),
        ("seed = 1\nmodle = 'a'\n", "line 2: modle is not a config key; close: 'model'"),
        ("# x\n\nseed = '1'\n", "line 3: seed is '1'; it must be a whole number"),
        ("seed = true\n", "line 1: seed is True; it must be a whole number"),
        ("quiet = 1\n", "line 1: quiet is 1; it must be true or false"),
        ("models = 'a'\n", r"line 1: models is 'a'; it must be a table: \[models\]"),
        ("[models]\na = 'x'\nb = 2\n", "line 3: models.b is 2; it must be text in quotes"),
        ("models.b = 2\n", "line 1: models.b is 2"),
        ("[models]\nseed = 'x'\n[settings]\nseed = 'x'\n", "line 4: settings.seed is 'x'"),
        ("[settings]\nparts = 'kmean'\n", "line 2: settings.parts is 'kmean'; it must be one of: kmeans, pca"),
        ("[settings]\npart_cout = 3\n", "line 2: settings.part_cout is not a setting; close: 'part_count'"),
        ("[settings]\npreset = 'paper'\n", "settings.preset is not a setting"),
        ("[settings]\nsoft_threshold = 'x'\n", "it must be a number"),
    ],
)
def test_a_bad_config_is_named_by_file_line_and_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    path = write_config(tmp_path, text)
    monkeypatch.setenv("CLIPMK_CONFIG", str(path))
    with pytest.raises(UsageError, match=expected) as caught:
        read_config()
    assert f"config '{path}'" in str(caught.value)


@pytest.mark.parametrize("home", ["/dev/null", "/" + "x" * 300])
def test_a_home_that_cannot_be_read_sets_nothing_and_is_named_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, home: str
) -> None:
    for name in ("CLIPMK_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", home)
    assert read_config() == read_config() == Config()
    (record,) = caplog.records
    assert record.getMessage().startswith(f"config '{home}")
    assert record.getMessage().endswith("; it is ignored")


def test_endless_brackets_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_config(tmp_path, "model = " + "[" * 20_000 + "]" * 20_000)
    monkeypatch.setenv("CLIPMK_CONFIG", str(path))
    with pytest.raises(UsageError, match="is not TOML: maximum recursion depth"):
        read_config()
    with pytest.raises(UsageError, match="is not TOML: maximum recursion depth"):
        save({"theme": "dark"})
    write_config(tmp_path, "[keys]\nquit = " + "[" * 150 + "]" * 150)  # deep for those who write it only
    with pytest.raises(UsageError, match=r"keys\.quit is"):
        save({"theme": "dark"})


def test_a_config_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "latin.toml"))
    (tmp_path / "latin.toml").write_bytes(b"model = 'caf\xe9'")
    with pytest.raises(UsageError, match=r"latin.toml' is not UTF-8 text \(byte 12\)"):
        read_config()
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path))
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_config()
