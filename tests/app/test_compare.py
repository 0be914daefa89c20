"""The comparison of models: what is asked, what its columns show, to which class it turns, what it writes."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

import samples
from app_harness import (
    IMAGE,
    MODELS,
    VIT,
    FakeEngine,
    Host,
    burst,
    compare_host,
    dialog_message,
    explained,
    line,
    lines,
    press,
    processed,
    seen,
    settled,
)
from clipmk.errors import ModelError
from clipmk.explanation import Explanation
from clipmk.worker import protocol
from clipmk_tui.app.engine.worker import EngineStoppedError
from clipmk_tui.app.questions import RANKED
from clipmk_tui.app.screens.choose_class import ChooseClassScreen
from clipmk_tui.app.screens.compare import CompareChoice, CompareScreen
from clipmk_tui.app.screens.search import Matches
from clipmk_tui.app.widgets.compare_grid import CompareGrid
from clipmk_tui.show.comparison import BEST

SIZES = [(80, 24), (120, 40)]


@pytest.mark.parametrize("size", SIZES)
async def test_columns_are_filled_and_the_most_agreed_concept_stands_first(size: tuple[int, int]) -> None:
    engine = FakeEngine()
    app = compare_host(engine, MODELS[:3])
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        assert engine.asked == [protocol.Compare(models=MODELS[:3], image=IMAGE, ranked=RANKED)]
        assert "fox_03.png" in lines(app)[0]
        assert "each model explains its own prediction" in lines(app)[0]
        assert lines(app)[1].strip() == "2 of 3 say 'fox'; 1 says 'cat' (the true class is not known)."
        for row, words in (
            ("true class not known", ["ViT", "ResNet", "of", "3"]),
            ("vit-s8  ", ["vit-xs", "rn-s", "∩/seen"]),
            ("fox", ["●", "●", "·", "2"]),
            ("cat", ["·", "·", "●", "1"]),
            ("pointed ears", ["∩", "∩", "∩", "3/3"]),
            ("a bushy tail", ["∩", "∩", "◐", "2/3"]),
            ("a white chest", ["◑", "◑", "·", "0/0"]),
        ):
            assert line(app, f"{row} ").strip().removeprefix(row).split() == words, row
        assert any(
            "vit-s8 says fox 71 % · 2/4 tied (u 5), beats all 28 classes · strength 3.69" in one for one in lines(app)
        )
        concepts = [one.split("  ")[0].strip() for one in lines(app)]
        assert concepts.index("pointed ears") < concepts.index("a bushy tail") < concepts.index("round eyes")
        assert max(cell_len(one) for one in lines(app)) <= size[0]


async def test_the_smallest_terminal_shows_rows_and_the_detail() -> None:
    app = compare_host(FakeEngine())
    async with app.run_test(size=(60, 16)) as pilot:
        await settled(pilot)
        grid = app.screen.query_one(CompareGrid)
        assert grid.size.height == 16 - 4  # less the title, a sentence, a line of details and the keys
        await press(pilot, "down", "down")
        assert any("pointed ears: mutual for" in one for one in lines(app))


async def test_only_models_that_are_not_at_hand_are_asked() -> None:
    engine = FakeEngine()
    known = {model: explained(model, IMAGE) for model in MODELS[:2]}
    app = compare_host(engine, known=known)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert engine.asked == [protocol.Compare(models=MODELS[2:], image=IMAGE, ranked=RANKED)]
        assert line(app, "pointed ears").split()[2:] == ["∩", "∩", "∩", "∩", "4/4"]
    app = compare_host(engine, MODELS[:2], known=known)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert len(engine.asked) == 1


async def test_known_explanation_of_another_class_is_turned_to_the_models_own() -> None:
    engine = FakeEngine()
    app = compare_host(engine, MODELS[:2], known={MODELS[0]: explained(MODELS[0], IMAGE, "cat")})
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert engine.asked == [protocol.Compare(models=(MODELS[1],), image=IMAGE, ranked=RANKED)]
        assert line(app, "a bushy tail").count("∩") == 2


async def test_awaited_columns_show_what_is_at_hand_and_how_far_the_next_one_is() -> None:
    engine = FakeEngine()
    engine.gate.clear()
    app = compare_host(engine, MODELS[:3], known={MODELS[0]: explained(MODELS[0], IMAGE)})
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert "waiting for 2 of 3 models" in lines(app)[0]
        assert line(app, "pointed ears").split()[2:] == ["∩", "…", "…", "1/1"]
        assert line(app, "fox ").count("…") == 2
        assert "embedding the image 0/4" in lines(app)[0]
        engine.gate.set()
        await settled(pilot)
        assert "waiting" not in lines(app)[0]
        assert not any("embedding the image" in one for one in lines(app))
        assert line(app, "pointed ears").split()[2:] == ["∩", "∩", "∩", "3/3"]


async def test_leaving_cancels_the_request() -> None:
    engine = FakeEngine()
    engine.gate.clear()
    app = compare_host(engine)
    async with app.run_test() as pilot:
        await pilot.pause()
        await press(pilot, "escape")
        assert app.answers == [None]
        assert engine.cancelled == engine.asked
        assert len(engine.cancelled) == 1


async def test_screen_is_left_by_each_of_its_keys() -> None:
    app = compare_host(FakeEngine(), MODELS[:2])
    async with app.run_test() as pilot:
        for times, key in enumerate(("escape", "q", "c"), 1):
            await settled(pilot)
            await press(pilot, key)
            assert app.answers == [None] * times
            app.open()


@pytest.mark.parametrize("size", SIZES)
async def test_failure_is_shown_in_its_column_and_the_others_stay(size: tuple[int, int]) -> None:
    engine = FakeEngine()
    engine.failures[MODELS[1]] = ModelError("model [b]x[/b] \x1b[31m is not on this machine")
    app = compare_host(engine, MODELS[:2])
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        assert line(app, "fox ").split()[1:] == ["●", "!", "1"]
        assert line(app, "pointed ears").split()[2:] == ["∩", "1/1"]
        await press(pilot, "right")
        assert any(r"model [b]x[/b] \x1b[31m is not on this machine" in one for one in lines(app))
        await press(pilot, "enter")
        assert app.answers == []
        assert isinstance(app.screen, CompareScreen)


async def test_why_a_model_failed_is_wrapped_and_its_sign_explained() -> None:
    engine = FakeEngine()
    engine.failures[MODELS[1]] = ModelError("the weights " + "are damaged " * 12 + "and cannot be read")
    app = compare_host(engine, MODELS[:2])
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert "! failed" in seen(app)
        assert "best AUC of its family" in " ".join(seen(app).split())
        await press(pilot, "right")
        assert "and cannot be read" in " ".join(seen(app).split())


async def test_engine_that_stopped_fails_what_is_awaited() -> None:
    engine = FakeEngine()
    engine.failures[protocol.Compare] = EngineStoppedError("the engine died twice; start clipmk again")
    app = compare_host(engine, MODELS[:2], known={MODELS[0]: explained(MODELS[0], IMAGE)})
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert line(app, "fox ").split()[1:] == ["●", "!", "1"]
        assert "waiting" not in lines(app)[0]
        await press(pilot, "right")
        assert any("vit-xs failed: the engine died twice" in one for one in lines(app))


async def test_t_turns_to_a_class_without_asking_what_the_records_answer() -> None:
    engine = FakeEngine()
    app = compare_host(engine)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await press(pilot, "right", "right", "t", *"ca", "enter")
        assert "all explain 'cat'" in lines(app)[0]
        assert line(app, "a bushy tail").count("◐") == 4
        assert any("rn-s says cat 15 % · 1/4 tied" in one for one in lines(app))
        await press(pilot, "left")
        assert any("vit-xs says fox 71 % · for 'cat' 1/4 tied" in one for one in lines(app))
        await press(pilot, "right", "down", "down", "enter")
        assert app.answers == [CompareChoice(model="embedded/rn-s", concept="pointed ears", target="cat")]
        assert len(engine.asked) == 1


def listed(app: Host) -> list[str]:
    """The lines of the class dialog's list that are not empty."""
    matches = app.screen.query_one(Matches)
    return [text for y in range(matches.size.height) if (text := matches.render_line(y).text.rstrip())]


async def test_t_lists_all_classes_below_the_own_prediction_and_turns_back() -> None:
    app = compare_host(FakeEngine())
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        before = lines(app)
        await press(pilot, "t")
        assert listed(app) == ["▸ each model's own prediction", "  fox", "  cat", "  wolf", "  dog"]
        await press(pilot, "down", "enter")
        assert "all explain 'fox'" in lines(app)[0]
        assert lines(app) != before
        await press(pilot, "t", "up", "enter")
        assert lines(app) == before


async def test_the_class_dialog_narrows_by_letters_and_is_left_without_a_choice() -> None:
    app = compare_host(FakeEngine())
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        before = lines(app)
        await press(pilot, "t", *"OG")
        assert listed(app) == ["▸ dog"]
        assert dialog_message(app) == "1 of 4 classes"
        await press(pilot, *"zz", "enter")
        assert isinstance(app.screen, ChooseClassScreen)
        await press(pilot, "escape")
        assert lines(app) == before


async def test_class_that_no_record_holds_is_asked_of_the_engine() -> None:
    engine = FakeEngine()
    known = {model: explained(model, IMAGE) for model in MODELS[:2]}
    app = compare_host(engine, MODELS[:2], known=known)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert engine.asked == []
        await press(pilot, "t", *"dog", "enter")
        assert "all explain 'dog'" in lines(app)[0]
        assert engine.asked == [protocol.Compare(models=MODELS[:2], image=IMAGE, target="dog", ranked=RANKED)]


async def test_right_and_wrong_are_marked_in_words_and_signs_by_family() -> None:
    app = compare_host(FakeEngine(), label="Cat")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert lines(app)[1].strip() == "2 of 4 say 'cat', the true class; 2 say 'fox'."
        assert line(app, "true class: cat").split()[3:] == ["ViT", "ResNet", "ConvNeXt", "of", "4"]
        assert line(app, "right, by family").split()[3:] == [*["0", "of", "2", "1", "of", "1", "1", "of", "1"], "2"]
        assert line(app, "cat (right)").split()[2:] == ["·", "·", "✓", "✓", "2"]
        assert line(app, "fox (wrong)").split()[2:] == ["✗", "✗", "·", "·", "2"]
        assert any("cat: rank 2 for embedded/vit-s8, 14.9 %" in one for one in lines(app))
        await press(pilot, "enter")
        assert app.answers == [CompareChoice(model=VIT, concept=None, target="cat")]


async def test_the_detail_names_numbers_and_the_models_that_see_the_same() -> None:
    known = {model: explained(model, IMAGE) for model in MODELS[:2]}
    known[MODELS[1]] = dataclasses.replace(known[MODELS[1]], vision_concepts=known[MODELS[1]].vision_concepts[:1])
    app = compare_host(FakeEngine(), MODELS[:2], known=known)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await press(pilot, "down")
        assert any(
            "∩ pointed ears: mutual for embedded/vit-s8, importance 0.712, cosine with 'fox' 0." in one
            for one in lines(app)
        )
        assert any("concepts in common with  vit-xs 25 %" in one for one in lines(app))


async def test_a_repeated_drawing_compares_kept_explanations(monkeypatch: pytest.MonkeyPatch) -> None:
    turned: list[str] = []
    turn = Explanation.for_class

    def counted(self: Explanation, class_name: str) -> Explanation:
        turned.append(class_name)
        return turn(self, class_name)

    app = compare_host(FakeEngine(), known={model: explained(model, IMAGE) for model in MODELS}, target="cat")
    monkeypatch.setattr(Explanation, "for_class", counted)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert len(turned) <= len(MODELS)
        await pilot.resize_terminal(80, 24)
        await press(pilot, "slash", *"tail", "enter")
        assert len(turned) <= len(MODELS)


async def test_first_target_is_shown_at_once() -> None:
    engine = FakeEngine()
    app = compare_host(engine, target="cat")
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert engine.asked == [protocol.Compare(models=MODELS, image=IMAGE, target="cat", ranked=RANKED)]
        assert "all explain 'cat'" in lines(app)[0]


async def test_best_auc_is_marked_within_a_family_only() -> None:
    weak = explained(MODELS[1], IMAGE)
    known = {model: explained(model, IMAGE) for model in MODELS}
    known[MODELS[1]] = dataclasses.replace(weak, mutual=dataclasses.replace(weak.mutual, auc=0.1))
    app = compare_host(FakeEngine(), known=known)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert any(f"AUC 0.61 (1.1 x chance) {BEST}" in one for one in lines(app))
        for key in ("right", "right", "right"):
            await press(pilot, key)
            assert not any(f"(0.55) {BEST}" in one for one in lines(app))


async def test_w_writes_valid_json_beside_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, valid: Callable[[Any], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clipmk-compare-fox_03.json").write_text("mine")
    engine = FakeEngine()
    engine.failures[MODELS[3]] = ModelError("gone")
    app = compare_host(engine)
    async with app.run_test() as pilot:
        await settled(pilot)
        for _ in range(2):
            await press(pilot, "w")
        assert app.answers == []
        assert app.notes == ["wrote clipmk-compare-fox_03-2.json", "wrote clipmk-compare-fox_03-3.json"]
    assert (tmp_path / "clipmk-compare-fox_03.json").read_text() == "mine"
    made = json.loads((tmp_path / "clipmk-compare-fox_03-2.json").read_text(encoding="utf-8"))
    valid(made)
    assert [column["id"] for column in made["comparison"]["columns"]] == list(MODELS)
    assert made["comparison"]["columns"][3]["error"]["message"] == "gone"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
async def test_file_that_cannot_be_written_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o500)
    app = compare_host(FakeEngine())
    async with app.run_test() as pilot:
        await settled(pilot)
        await press(pilot, "w")
        assert app.severities == ["error"]


async def test_y_copies_the_table() -> None:
    app = compare_host(FakeEngine())
    async with app.run_test() as pilot:
        await settled(pilot)
        await press(pilot, "y")
        assert "pointed ears" in app.clipboard
        assert "AUC is not comparable" not in app.clipboard
        assert "\x1b" not in app.clipboard


async def test_nothing_is_written_or_copied_before_the_first_answer(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.gate.clear()
    app = compare_host(engine)
    async with app.run_test() as pilot:
        await pilot.pause()
        burst(pilot, "w", "y", "v")
        await processed(pilot)
        assert set(app.severities) == {"warning"}
        assert isinstance(app.screen, CompareScreen)
        assert app.clipboard == ""


async def test_records_that_do_not_belong_together_are_reported_and_the_app_goes_on() -> None:
    other = explained(MODELS[0], IMAGE)
    other = dataclasses.replace(other, image=dataclasses.replace(other.image, sha256="a" * 64, path="owl.png"))
    app = compare_host(FakeEngine(), MODELS[:2], known={MODELS[0]: other})
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert any("only one image can be compared" in text for text in app.notes)
        await press(pilot, "escape")
        assert app.answers == [None]


async def test_text_from_outside_reaches_the_screen_as_it_is() -> None:
    evil = "[red]\x1b[31m猫[/red]"
    known = {
        model: samples_of(model, samples.explanation(path=IMAGE, class_name=evil, descriptor=evil)) for model in MODELS
    }
    app = compare_host(FakeEngine(), MODELS[:2], known=known, image="[b]fox\x1b.png")
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert sum(r"[red]\x1b[31m猫[/red]" in one for one in lines(app)) >= 2
        assert r"[b]fox\x1b.png" in lines(app)[0]
        await press(pilot, "v")
        assert any(r"[red]\x1b[31m猫[/red]" in one for one in lines(app))
        assert "\x1b" not in seen(app)


def samples_of(model: str, made: Explanation) -> Explanation:
    return dataclasses.replace(made, model=dataclasses.replace(made.model, id=model))


async def test_failure_for_one_class_does_not_count_for_another() -> None:
    engine = FakeEngine()
    engine.failures[MODELS[1]] = ModelError("gone")
    known = {MODELS[0]: explained(MODELS[0], IMAGE)}
    app = compare_host(engine, MODELS[:2], known=known, target="cat")
    async with app.run_test() as pilot:
        await settled(pilot)
        await press(pilot, "t", "up", "up", "enter")
        await press(pilot, "t", *"cat", "enter")
        await press(pilot, "t", "up", "up", "enter")
        assert line(app, "fox ").split()[1:] == ["●", "!", "1"]
        asked = [request for request in engine.asked if isinstance(request, protocol.Compare)]
        assert [(request.models, request.target) for request in asked] == [(MODELS[1:2], "cat"), (MODELS[1:2], None)]
