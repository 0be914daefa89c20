"""Pools: named ones and files of models."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest

from clipmk.errors import ClipmkError, InputError, UsageError
from clipmk.models.catalog import embedded_names, pool
from clipmk.models.spec import pair_spec


def test_the_zoo_is_every_embedded_model() -> None:
    assert pool("zoo") == tuple(embedded_names())
    assert len(pool("zoo")) == 13


def test_the_paper_models_exist_under_names_with_the_right_activation() -> None:
    pairs = [tuple(name.split(":")) for name in pool("paper13")]
    assert len(set(pairs)) == 13
    assert set(pairs) <= set(open_clip.list_pretrained())
    assert [tag for _, tag in pairs].count("openai") == 8
    assert not any(pair_spec(*pair).quick_gelu for pair in pairs)
    families = [pair_spec(*pair).entry.family for pair in pairs]
    assert families == ["vit"] * 7 + ["resnet"] * 4 + ["convnext"] * 2


def test_a_file_names_one_model_per_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("\ufeff# models\nViT-B-32:openai  # a comment\n\n  local-dir:a#b/c\r\nmine\n", encoding="utf-8")
    assert pool(str(path)) == ("ViT-B-32:openai", "local-dir:a#b/c", "mine")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# nothing\n\n", "does not name any model"),
        (b"a\nb\na # again\n", "line 3: 'a' is already in line 1"),
        (b"a\n\xff\n", r"is not UTF-8 text \(byte 2\)"),
        (b"a\x1b[2J\n", r"line 1: 'a\\x1b\[2J' contains control characters"),
    ],
)
def test_files_that_are_not_a_pool_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "p.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        pool(str(tmp_path / "p.txt"))


def test_unknown_pools_name_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pool 'papr13' is neither a file nor one of: zoo, paper13; close: 'paper13'"):
        pool("papr13")
    with pytest.raises(ClipmkError, match="is a folder, not a regular file"):
        pool(str(tmp_path))
