"""What goes wrong with embedded texts on disk: damage, no space, locks, kills, eight processes at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from clipmk.errors import ClipmkError, ModelError
from clipmk.system.locations import clear_cache
from clipmk.vocabulary import cache as textstore
from clipmk.vocabulary import embeddings as textbank
from clipmk.vocabulary.embeddings import load_bank
from fake_text_encoder import FARM, GROWN, FakeBackbone, banks, same

pytestmark = pytest.mark.usefixtures("texts_folder")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b"\x80\x04garbage" * 30)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def rewrite(path: Path, *, rows: int = 0) -> None:
    """Write a sound file of other content in its place."""
    stored = textstore.read(path)
    textstore.write(path, textstore.Stored(stored.keys[rows:].copy(), stored.rows[rows:].clone()))


def old_format(path: Path) -> None:
    keys, rows, _ = textstore.read(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(textstore, "FORMAT", "clipmk-texts-2")
        textstore.write(path, textstore.Stored(keys.copy(), rows.clone()))


def other_names(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"rows"', b'"raws"'))


def fewer_rows(path: Path) -> None:
    rewrite(path, rows=1)


def of_another_name(path: Path) -> None:
    other = path.with_stem(path.stem[:-1] + "x")
    path.rename(other)
    rewritten = other.read_bytes()
    other.unlink()
    path.write_bytes(rewritten.replace(path.stem.encode(), other.stem.encode()))


def other_place(path: Path) -> None:
    """Two rows in each other's place: their sum is the same, their bytes are not."""
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    data[start : start + 64] = data[start + 32 : start + 64] + data[start : start + 32]
    path.write_bytes(data)


DAMAGES = [cut, empty, garbage, flip, old_format, other_names, fewer_rows, of_another_name, other_place]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", ["classes", "descriptors", "raw"])
def test_a_damaged_file_is_rebuilt_with_a_warning(texts_folder: Path, damage: object, which: str) -> None:
    made = load_bank(FakeBackbone(), FARM, cache=False)
    load_bank(FakeBackbone(), FARM)
    path = next(texts_folder.glob(f"{which}-*.safetensors"))
    damage(path)
    bank = load_bank(FakeBackbone(), FARM)
    assert same(bank, made)
    assert len(bank.warnings) == 1
    assert f"cached texts {path.name} cannot be used and are rebuilt" in bank.warnings[0]
    again = FakeBackbone()
    assert load_bank(again, FARM).warnings == ()
    assert again.asked == []


def test_a_damaged_file_of_another_vocabulary_is_noticed_and_removed(texts_folder: Path) -> None:
    load_bank(FakeBackbone(), FARM)
    path = next(texts_folder.glob("descriptors-*.safetensors"))
    flip(path)
    bank = load_bank(FakeBackbone(), GROWN)
    assert same(bank, load_bank(FakeBackbone(), GROWN, cache=False))
    assert bank.warnings == (f"cached texts {path.name} cannot be used: its numbers are not those that were written",)
    assert not path.exists()


def test_an_unwritable_cache_only_costs_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CLIPMK_CACHE_DIR", str(tmp_path / "file" / "below"))
    bank = load_bank(FakeBackbone(), FARM)
    assert same(bank, load_bank(FakeBackbone(), FARM, cache=False))
    assert len(bank.warnings) == 1
    assert "not kept for the next time" in bank.warnings[0]


def test_a_full_disk_only_costs_a_warning(texts_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    bank = load_bank(FakeBackbone(), FARM)
    assert same(bank, load_bank(FakeBackbone(), FARM, cache=False))
    assert "No space left on device" in bank.warnings[0]
    assert banks(texts_folder) == []
    assert not list(texts_folder.glob(".*"))


def test_a_lock_held_too_long_is_not_waited_for(texts_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_bank(FakeBackbone(), FARM)
    path = next(texts_folder.glob("classes-*.safetensors"))
    path.unlink()
    monkeypatch.setattr(textbank, "LOCK_SECONDS", 0.05)
    (lock,) = texts_folder.glob("*.lock")
    with FileLock(lock):
        bank = load_bank(FakeBackbone(), FARM)
    assert "not kept" in bank.warnings[0]
    assert not path.exists()
    assert same(bank, load_bank(FakeBackbone(), FARM))


def test_cancelling_leaves_nothing_behind_and_the_lock_free(texts_folder: Path) -> None:
    def cancel(_: int, __: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_bank(FakeBackbone(), FARM, progress=cancel)
    assert banks(texts_folder) == []
    assert not list(texts_folder.glob(".*"))
    assert load_bank(FakeBackbone(), FARM).warnings == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_vectors_without_a_direction_are_an_error_and_never_stored(texts_folder: Path, value: float) -> None:
    class Broken(FakeBackbone):
        def encode_texts(self, texts: list[str], **_: object) -> torch.Tensor:
            return torch.full((len(texts), 8), value)

    with pytest.raises(ModelError, match="precision fp32"):
        load_bank(Broken(), FARM)
    assert banks(texts_folder) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_process_killed_at_any_moment_leaves_nothing_that_is_read_wrongly() -> None:
    script = """
import os, signal, sys, time
from dataclasses import replace
import torch
from fake_text_encoder import FARM, FakeBackbone
from clipmk.system.locations import clear_cache
from clipmk.vocabulary import embeddings
from clipmk.vocabulary.embeddings import load_bank
torch.set_num_threads(1)
embeddings.CHUNK = 5
grown = replace(FARM, descriptors=(*FARM.descriptors, *(f"tail {i}" for i in range(40))))
expected = load_bank(FakeBackbone(), grown, cache=False)
for moment in range(12):
    child = os.fork()
    if not child:
        try:
            for number in range(10_000):
                load_bank(FakeBackbone(), grown.with_classes([f"class {number}"]))
        finally:
            os._exit(1)  # a parent that comes late must not find it doing the parent's work
    time.sleep(0.005 * moment)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    bank = load_bank(FakeBackbone(), grown)
    assert bank.warnings == (), bank.warnings
    assert all(torch.equal(getattr(bank, name), getattr(expected, name)) for name in ("classes", "descriptors", "raw"))
    clear_cache()
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    subprocess.run([sys.executable, "-c", script], env=env, timeout=600, check=True)


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_eight_processes_at_once_embed_once_and_leave_three_good_files(texts_folder: Path) -> None:
    script = """
import json, multiprocessing, os, torch
from fake_text_encoder import FARM, FakeBackbone
from clipmk.vocabulary.embeddings import load_bank
def build(barrier, answers):
    torch.set_num_threads(1)
    backbone = FakeBackbone(seconds=0.3)
    barrier.wait()
    bank = load_bank(backbone, FARM)
    answers.put((len(backbone.asked), float(bank.classes.sum()), bank.warnings))
context = multiprocessing.get_context("fork")
barrier, answers = context.Barrier(8), context.SimpleQueue()
children = [context.Process(target=build, args=(barrier, answers)) for _ in range(8)]
[child.start() for child in children]
results = [answers.get() for _ in children]
[child.join() for child in children]
print(json.dumps(results))
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=env, timeout=600, check=True
    )
    results = json.loads(done.stdout)
    assert sum(asked for asked, _, _ in results) == 1
    assert len({total for _, total, _ in results}) == 1
    assert all(warnings == [] for _, _, warnings in results)
    assert [path.name.split("-")[0] for path in banks(texts_folder)] == ["classes", "descriptors", "raw"]
    assert {path.suffix for path in texts_folder.iterdir()} == {".safetensors", ".lock"}
    backbone = FakeBackbone()
    assert same(load_bank(backbone, FARM), load_bank(FakeBackbone(), FARM, cache=False))
    assert backbone.asked == []


def test_a_file_that_cannot_be_removed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    load_bank(FakeBackbone(), FARM)

    def refuse(self: Path, *, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(ClipmkError, match="cannot be removed: Permission denied"):
        clear_cache()
