"""Where things are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipmk.errors import UsageError
from clipmk.system import locations


def test_environment_moves_cache_and_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPMK_CACHE_DIR", str(tmp_path / "c"))
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "x.toml"))
    assert locations.cache_dir() == tmp_path / "c"
    assert locations.texts_dir().parent == tmp_path / "c"
    assert locations.config_path() == tmp_path / "x.toml"
    assert not (tmp_path / "c").exists()


def test_home_is_expanded_and_an_unknown_home_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("CLIPMK_CACHE_DIR", "~/cache")
    assert locations.cache_dir() == tmp_path / "cache"
    monkeypatch.setenv("CLIPMK_CACHE_DIR", "~nobody-of-that-name/cache")
    with pytest.raises(UsageError, match="CLIPMK_CACHE_DIR is '~nobody-of-that-name/cache'"):
        locations.cache_dir()


def test_without_environment_the_platform_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPMK_CACHE_DIR", "")
    monkeypatch.delenv("CLIPMK_CONFIG", raising=False)
    assert "clipmk" in locations.cache_dir().parts
    assert locations.config_path().name == "config.toml"
    assert "clipmk" in locations.config_path().parts


def test_assets_lie_beside_the_code() -> None:
    assert locations.assets_dir() == Path(locations.__file__).parents[1] / "assets"
