from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.text import Text

from clipmk.output import document
from clipmk.system.config import DEFAULT_MODEL
from command_line import FAST, Ran, Runner

pytestmark = pytest.mark.usefixtures("loaded_once")

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


def _results(ran: Ran) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ran.out)["results"]
    return found


def _timeless(result: dict[str, Any]) -> dict[str, Any]:
    return {**result, "elapsed_ms": None}


def test_json_of_an_explanation_is_valid_and_nothing_else_is_on_stdout(
    clipmk: Runner, scene_files: list[Path], valid: Callable[[Any], None]
) -> None:
    ran = clipmk("explain", scene_files[0], "--json")
    made = json.loads(ran.out)
    valid(made)
    (result,) = made["results"]
    assert ran.status == 0
    assert (result["image"]["path"], result["image"]["width"]) == (str(scene_files[0]), 64)
    assert result["model"]["id"] == DEFAULT_MODEL == "embedded/rn-parts"
    assert result["explanation"]["class"] == result["predictions"][0]["class"]
    assert result["provenance"]["settings"]["preset"] == "default"
    assert result["provenance"]["vocabulary"] == "world"
    assert ran.err.startswith(f"clipmk: note: {DEFAULT_MODEL} is a demonstration model that knows drawn classes only")
    assert ran.err.count("\n") == 1


def test_same_seed_gives_the_same_bytes_but_for_the_times(clipmk: Runner, scene_files: list[Path]) -> None:
    argv = ("explain", scene_files[1], *FAST, "--jsonl", "--seed")
    clipmk(*argv, 3)
    first, second, other = (document.dump(_timeless(json.loads(clipmk(*argv, seed).out))) for seed in (3, 3, 4))
    assert first == second
    assert first != other


def test_first_run_gives_the_same_bytes_as_runs_from_the_cache(
    clipmk: Runner, scene_files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPMK_CACHE_DIR", str(tmp_path / "new"))
    argv = ("explain", scene_files[1], *FAST, "--jsonl")
    results = [_timeless(json.loads(clipmk(*argv, *more).out)) for more in ((), (), ("--no-cache",))]
    assert len(list((tmp_path / "new" / "texts").glob("*.safetensors"))) == 3
    assert results[0] == results[1]
    assert results[0] == results[2]


def test_report_without_a_terminal_is_plain(clipmk: Runner, scene_files: list[Path]) -> None:
    ran = clipmk("explain", scene_files[0], *FAST)
    assert ran.status == 0
    assert "\x1b" not in ran.out + ran.err
    assert "predictions" in ran.out
    assert "why '" in ran.out
    assert max(len(line) for line in ran.out.splitlines()) <= 100


def test_picture_is_drawn_where_colour_is_possible(
    clipmk: Runner, scene_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    drawn = clipmk("explain", scene_files[0], *FAST).out
    assert "▀" in drawn
    assert "\x1b[38;5;" in drawn
    assert "▀" not in clipmk("explain", scene_files[0], *FAST, "--no-picture").out
    colourless = clipmk("explain", scene_files[0], *FAST, "--no-color").out
    assert "▀" not in colourless
    assert "38;5;" not in colourless
    assert "predictions" in Text.from_ansi(colourless).plain


def test_quiet_run_says_nothing_but_the_result(clipmk: Runner, scene_files: list[Path]) -> None:
    assert clipmk("explain", scene_files[0], *FAST, "--quiet").err == ""


def test_named_demonstration_model_needs_no_note(clipmk: Runner, scene_files: list[Path]) -> None:
    assert "demonstration" not in clipmk("explain", scene_files[0], *FAST, "-m", DEFAULT_MODEL).err


def test_warnings_of_an_image_are_printed_once_at_the_end(clipmk: Runner, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "b.gif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    ran = clipmk("explain", "a.gif", "b.gif", *FAST, "--jsonl")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert all("the image is animated; only its first frame is used" in line["warnings"] for line in lines)
    assert ran.err.count("clipmk: warning: a.gif and 1 more: the image is animated") == 1
    assert "warning" not in clipmk("explain", "a.gif", *FAST, "--jsonl", "-q").err


def test_top_sets_how_many_classes_are_reported(clipmk: Runner, scene_files: list[Path]) -> None:
    (result,) = _results(clipmk("explain", scene_files[0], *FAST, "--json", "--top", 2))
    assert [one["rank"] for one in result["predictions"]] == [1, 2]


def test_verbose_shows_everything(clipmk: Runner, scene_files: list[Path]) -> None:
    ran = clipmk("explain", scene_files[0], *FAST, "--verbose")
    assert "more (--verbose)" not in ran.out
    assert "preset     paper, seed 0" in ran.out


# what goes in


def test_image_comes_from_stdin(clipmk: Runner, scene_files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with scene_files[0].open(encoding="latin-1") as handle:
        monkeypatch.setattr("sys.stdin", handle)
        ran = clipmk("explain", "-", scene_files[0], "-", *FAST, "--jsonl")
    results = [json.loads(line) for line in ran.out.splitlines()]
    assert [result["image"]["path"] for result in results] == ["-", str(scene_files[0]), "-"]
    assert len({result["image"]["sha256"] for result in results}) == 1


def test_empty_stdin_is_an_input_error(clipmk: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as handle:  # noqa: PTH123
        monkeypatch.setattr("sys.stdin", handle)
        ran = clipmk("explain", "-")
    assert (ran.status, ran.out) == (3, "")
    assert "clipmk: error: standard input is empty" in ran.err


def test_folders_and_patterns_give_their_images_in_order(clipmk: Runner, scene_files: list[Path]) -> None:
    folder = scene_files[0].parent
    expected = sorted(str(path) for path in scene_files)
    for argument in (folder, folder / "*.png"):
        ran = clipmk("explain", argument, *FAST, "--jsonl")
        assert [json.loads(line)["image"]["path"] for line in ran.out.splitlines()] == expected


def test_target_is_explained_instead_of_the_prediction(clipmk: Runner, scene_files: list[Path]) -> None:
    own, asked, full = (
        _results(clipmk("explain", scene_files[0], *FAST, "--json", *more))[0]
        for more in ((), ("--target", "Castle"), ("--top", 99))
    )
    assert own["explanation"]["class"] != "castle"
    assert asked["explanation"]["class"] == "castle"
    beyond = [one for one in full["predictions"][len(own["predictions"]) :] if one["class"] == "castle"]
    assert asked["predictions"] == own["predictions"] + beyond


def test_classes_replace_the_vocabularys_and_keep_its_descriptors(
    clipmk: Runner, scene_files: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "classes.txt").write_text("a red boat\na blue car\n", encoding="utf-8")
    for classes in ("a red boat,a blue car", "classes.txt"):
        (result,) = _results(clipmk("explain", scene_files[0], *FAST, "--json", "--classes", classes))
        assert {one["class"] for one in result["predictions"]} == {"a red boat", "a blue car"}
        assert result["explanation"]["vision_concepts"]


def test_vocabulary_file_is_used_for_any_model(clipmk: Runner, scene_files: list[Path], tmp_path: Path) -> None:
    vocabulary = {"fox": ["pointed ears", "a bushy tail"], "car": ["round wheels", "square windows"]}
    (tmp_path / "own.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (result,) = _results(clipmk("explain", scene_files[0], *FAST, "--json", "--vocab", "own.json"))
    assert {one["class"] for one in result["predictions"]} == {"fox", "car"}
    assert result["provenance"]["vocabulary"] == "own"


def test_config_and_environment_reach_the_result(
    clipmk: Runner, scene_files: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(
        'preset = "paper"\nseed = 5\n[settings]\ngrounding = "attend"\n', encoding="utf-8"
    )
    monkeypatch.setenv("CLIPMK_SEED", "6")
    monkeypatch.setenv("CLIPMK_JSON", "1")
    (result,) = _results(clipmk("explain", scene_files[0]))
    made = result["provenance"]["settings"]
    assert (made["preset"], made["grounding"], made["seed"]) == ("paper", "attend", 6)


def test_file_name_is_never_markup(clipmk: Runner, scene_files: list[Path], tmp_path: Path) -> None:
    name = "[red]x[/red].png"
    path = tmp_path / name  # the slash makes it a folder and a file
    path.parent.mkdir()
    path.write_bytes(scene_files[0].read_bytes())
    ran = clipmk("explain", name, *FAST)
    assert ran.status == 0
    assert ran.out.startswith(name)


@posix
def test_file_name_that_is_not_utf8_or_has_control_characters_is_escaped(
    clipmk: Runner, scene_files: list[Path], tmp_path: Path, valid: Callable[[Any], None]
) -> None:
    name = os.fsdecode(b"\xff\x1b[31m\n.png")
    (tmp_path / name).write_bytes(scene_files[0].read_bytes())
    ran = clipmk("explain", name, *FAST, "--json")
    valid(json.loads(ran.out))
    assert ran.status == 0
    for out in (ran.out, clipmk("explain", name, *FAST).out, clipmk("explain", name + "x").err):
        assert "\x1b" not in out
        assert "\\udcff" in out


def test_overlay_and_page_are_written_for_each_result(clipmk: Runner, scene_files: list[Path], tmp_path: Path) -> None:
    files = ("--overlay", "parts.png", "--html", "page.html")
    ran = clipmk("explain", *scene_files[:2], "gone.png", *FAST, *files, "-q", "--jsonl")
    assert ran.status == 3
    names = sorted(path.name for path in tmp_path.iterdir())
    stems = sorted(path.stem for path in scene_files[:2])
    assert names == sorted(["page.html", *(f"parts-{stem}.png" for stem in stems)])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<section") == 3
    assert "image &#39;gone.png&#39; does not exist" in page


def test_overlay_of_one_image_is_the_picture_with_its_parts(
    clipmk: Runner, scene_files: list[Path], tmp_path: Path
) -> None:
    clipmk("explain", scene_files[0], *FAST, "--overlay", "o.png", "-q")
    drawn = np.asarray(Image.open(tmp_path / "o.png").convert("RGB"))
    picture = np.asarray(Image.open(scene_files[0])).repeat(4, 0).repeat(4, 1)
    assert drawn.shape == picture.shape
    changed = (drawn != picture).any(2).mean()
    assert 0.01 < changed < 0.99


def test_overlay_that_cannot_be_written_is_an_error_before_the_work(
    clipmk: Runner, scene_files: list[Path], tmp_path: Path
) -> None:
    copied = tmp_path / "photo.png"
    copied.write_bytes(scene_files[0].read_bytes())
    ran = clipmk("explain", "photo.png", "--overlay", "photo.png")
    assert ran.status == 2
    assert "'photo.png' is one of the images" in ran.err
    assert copied.read_bytes() == scene_files[0].read_bytes()


def test_words_of_ones_own_are_answered_in_every_form(clipmk: Runner, scene_files: list[Path], tmp_path: Path) -> None:
    words, page, overlay = tmp_path / "words.txt", tmp_path / "page.html", tmp_path / "map.png"
    words.write_text("# mine\nsnow\n<b>bold</b> [red]\n", encoding="utf-8")
    argv = ("explain", scene_files[0], *FAST, "--ask-file", words, "--ask", "🦊", "--ask", "snow")
    texts = ["🦊", "snow", "<b>bold</b> [red]"]
    for form in ("--json", "--jsonl"):
        ran = clipmk(*argv, form, "--html", page)
        result = json.loads(ran.out)["results"][0] if form == "--json" else json.loads(ran.out)
        assert [one["text"] for one in result["asked"]] == texts
    assert "<b>bold</b>" not in page.read_text(encoding="utf-8")
    report = clipmk(*argv).out
    assert "? asked (3)" in report
    assert all(text in report for text in texts)
    assert clipmk("explain", scene_files[0], *FAST, "--overlay", overlay).status == 0
    plain = overlay.read_bytes()
    assert clipmk("explain", scene_files[0], *FAST, "--overlay", overlay, "--ask", "snow").status == 0
    assert overlay.read_bytes() != plain


def test_added_classes_compete_and_can_be_explained(clipmk: Runner, scene_files: list[Path]) -> None:
    argv = ("explain", scene_files[0], *FAST, "--json", "--add-class", "wolf", "--target", "wolf", "--top", "40")
    (result,) = json.loads(clipmk(*argv).out)["results"]
    assert result["explanation"]["class"] == "wolf"
    assert "wolf" in {one["class"] for one in result["predictions"]}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--ask", " "), "text 1 is blank"),
        (("--ask", "snow", "--ask", "x" * 10_000), "text 2 has 10000 characters"),
        (("--ask", "a\x1b[31m"), r"text 1 holds the control character \x1b"),
        (("--ask-file", "gone.txt"), "file of texts 'gone.txt' does not exist"),
        (("--add-class", " "), "--add-class ' ' is blank"),
    ],
)
def test_words_that_cannot_be_asked_are_input_errors(
    clipmk: Runner, scene_files: list[Path], more: tuple[str, ...], message: str
) -> None:
    ran = clipmk("explain", scene_files[0], *FAST, *more)
    assert ran.status == 3
    assert message in ran.err
