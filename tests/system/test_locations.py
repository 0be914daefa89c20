"""Where things are kept, whole files or none, and which of flag, environment and config decides."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmk.errors import ClipmkError, UsageError
from clipmk.settings import preset
from clipmk.system import locations
from clipmk.system.config import Config, choose, read_config
from clipmk.system.files import atomic_write
from clipmk.system.text import encodable, is_unsafe, printable, quoted


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


def test_light_modules_import_nothing_heavy() -> None:
    script = (
        "import sys, clipmk.system.locations, clipmk.vocabulary.vocabulary, clipmk.system.config\n"
        "import clipmk.system.files, clipmk.system.text\n"
        "print([m for m in ('torch', 'numpy', 'PIL', 'platformdirs', 'cv2', 'clipmk.world') if m in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "[]"


def test_a_written_file_is_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic_write(path) as handle:
        handle.write(b"new")
        assert path.read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == 2  # the temporary file lies in the same folder
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_public_file_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "a", private=False) as handle:
            handle.write(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write() -> None:
        with atomic_write(path) as handle:
            handle.write(b"half")
            raise failure

    with pytest.raises(failure):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, reason in (
        (tmp_path / "nowhere" / "a", "No such file"),
        (tmp_path / "file" / "a", "Not a directory"),
        (tmp_path, "not a regular file"),
    ):
        with pytest.raises(ClipmkError, match=reason), atomic_write(path) as handle:
            handle.write(b"x")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_are_followed_and_devices_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with atomic_write(tmp_path / "link") as handle:
        handle.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    with pytest.raises(ClipmkError, match="not a regular file"), atomic_write("/dev/null") as handle:
        handle.write(b"x")


def test_a_full_disk_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    match = r"a\.bin' cannot be written: No space left"
    with pytest.raises(ClipmkError, match=match), atomic_write(tmp_path / "a.bin") as handle:
        handle.write(b"x")
    assert not list(tmp_path.iterdir())


@given(st.text())
def test_printable_text_is_one_harmless_line(text: str) -> None:
    shown = printable(text)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029\u202a\u202e\u2066\ufeff" for c in shown)
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")


def test_printable_text_escapes_what_steers_and_keeps_what_is_read() -> None:
    assert printable("a\x1b[2J\n\x9b\u202eb\U000e0041") == r"a\x1b[2J\x0a\x9b\u202eb\U000e0041"
    kept = "naïve 狐 🦊 [bold]x[/] می\u200cخواهم"
    assert printable(kept) == kept
    assert quoted(Path("a\tb")) == r"'a\x09b'"
    assert encodable("a\udcff\n狐") == "a\\udcff\n狐"


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
        ("seed = 1\nmodel = fox\n", r"is not TOML: model: Invalid value \(at line 2, column 9\)"),
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
def test_a_bad_config_is_named_by_file_line_and_key(tmp_path: Path, text: str, expected: str) -> None:
    path = write_config(tmp_path, text)
    with pytest.raises(UsageError, match=expected) as caught:
        read_config(path)
    assert f"config '{path}'" in str(caught.value)


def test_a_config_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"model = 'caf\xe9'")
    with pytest.raises(UsageError, match=r"latin.toml' is not UTF-8 text \(byte 12\)"):
        read_config(tmp_path / "latin.toml")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_config(tmp_path)


def test_flag_beats_environment_beats_config_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPMK_SEED", "5")
    assert choose(7, "CLIPMK_SEED", 6, 0) == 7
    assert choose(0, "CLIPMK_SEED", 6, 1) == 0  # zero is given, not missing
    assert choose(None, "CLIPMK_SEED", 6, 0) == 5
    assert choose(None, "CLIPMK_SEED", None, 0) == 5
    monkeypatch.setenv("CLIPMK_SEED", "")
    assert choose(None, "CLIPMK_SEED", 6, 0) == 6
    assert choose(None, "CLIPMK_SEED", None, 0) == 0


def test_the_environment_is_read_as_what_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPMK_X", "off")
    assert choose(None, "CLIPMK_X", None, default=True) is False
    assert choose(None, "CLIPMK_X", None, "on") == "off"
    assert choose(None, "CLIPMK_X", None, ("a",), parse=lambda text: (text, text)) == ("off", "off")
    monkeypatch.setenv("CLIPMK_X", "0.5")
    assert choose(None, "CLIPMK_X", None, 1.0) == 0.5
    for default in (True, 3):
        with pytest.raises(UsageError, match=r"CLIPMK_X is '0.5'"):
            choose(None, "CLIPMK_X", None, default)


def test_what_python_calls_printable_is_safe_to_print() -> None:
    assert not [code for code in range(sys.maxunicode + 1) if chr(code).isprintable() and is_unsafe(chr(code))]
