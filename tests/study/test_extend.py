"""Models that are added to a study."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from clipmk.errors import InputError, ModelError, UsageError
from clipmk.records import ModelInfo
from clipmk.settings import preset
from clipmk.study.run import run_study
from study_runs import MODELS, SCENES, fingerprints, images, killed, request, stopping_after, undisturbed  # noqa: F401


def test_extend_adds_models_to_a_study(tmp_path: Path, images: Path, undisturbed: Path) -> None:
    folder = tmp_path / "study"
    first = request(folder, images, models=MODELS[:1])
    with pytest.raises(InputError, match="holds no study to extend; leave --extend out"):
        run_study(dataclasses.replace(first, extend=True))
    assert not (folder / "study.json").exists()
    run_study(dataclasses.replace(first, command="clipmk one"))
    before = fingerprints(folder)
    for models in (MODELS, MODELS[::-1], MODELS[1:]):
        with pytest.raises(
            UsageError, match=rf"'{MODELS[0]}' there, '{', '.join(models)}' here; --extend keeps the models"
        ):
            run_study(request(folder, images, models=models))
    with pytest.raises(UsageError, match=r"same again: settings.seed: 0 there, 3 here$"):
        run_study(request(folder, images, models=MODELS[:1], settings=preset("default", seed=3), extend=True))
    with pytest.raises(UsageError, match=r"settings.seed: 0 there, 3 here$"):
        run_study(request(folder, images, settings=preset("default", seed=3), extend=True))
    assert fingerprints(folder) == before
    added = request(folder, images, models=MODELS[1:], extend=True, command="clipmk two")
    with pytest.raises(KeyboardInterrupt):
        run_study(added, progress=stopping_after(SCENES + 3))
    outcome = run_study(added)
    assert outcome.manifest.command == "clipmk one && clipmk two"
    with pytest.raises(UsageError, match=r"there, '[^']*' here; --extend keeps the models"):
        run_study(first)
    assert run_study(dataclasses.replace(first, extend=True)).resumed == outcome.manifest.shards * len(MODELS)
    assert run_study(request(folder, images)).resumed == outcome.manifest.shards * len(MODELS)
    after, wanted = fingerprints(folder), fingerprints(undisturbed)
    assert after.pop("study.json") != wanted.pop("study.json")  # the commands
    assert after == wanted


@pytest.mark.parametrize("shards", [3, 4])  # three of the first model: the manifest is being written
def test_a_killed_extension_resumes(tmp_path: Path, images: Path, undisturbed: Path, shards: int) -> None:
    folder = tmp_path / "study"
    run_study(request(folder, images, models=MODELS[:1]))
    killed(folder, images, "-m", MODELS[1], "--extend", shards=shards)
    run_study(request(folder, images, models=MODELS[1:], extend=True))
    assert fingerprints(folder) == fingerprints(undisturbed)


def test_an_added_model_without_results_can_be_left_out(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = request(tmp_path / "study", images, models=MODELS[:1])
    run_study(first)
    before = fingerprints(tmp_path / "study")
    with monkeypatch.context() as patch:

        def failing(*_: object, **__: object) -> None:
            raise ModelError("it cannot be loaded")

        patch.setattr("clipmk.study.run.run_local", failing)
        with pytest.raises(ModelError, match="cannot be loaded"):
            run_study(dataclasses.replace(first, models=MODELS[1:], extend=True))
    assert fingerprints(tmp_path / "study") != before
    run_study(first)
    assert fingerprints(tmp_path / "study") == before


def test_a_finished_model_may_be_gone_when_another_is_added(
    tmp_path: Path, images: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipmk.models.loading import describe  # noqa: PLC0415

    def described(name: str) -> tuple[ModelInfo, int]:
        assert name != MODELS[0], "it is not needed any more"
        return describe(name)

    run_study(request(tmp_path / "study", images, models=MODELS[:1]))
    monkeypatch.setattr("clipmk.study.resolve.describe", described)
    run_study(request(tmp_path / "study", images, models=MODELS[1:], extend=True))
    after, wanted = fingerprints(tmp_path / "study"), fingerprints(undisturbed)
    assert after == wanted
