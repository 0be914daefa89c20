"""Options of the environment and the config, for what starts without a parser."""

from __future__ import annotations

import pytest

from clipmk.errors import UsageError
from clipmk.settings import preset
from clipmk.system.config import (
    Config,
    comma_separated,
    config_options,
    environment_options,
    positive_number,
    settings_from,
    switch,
    whole_number,
)

READERS = {"model": comma_separated, "seed": whole_number, "top": positive_number, "no_color": switch, "theme": str}


def test_the_environment_is_read_as_what_is_expected(clean: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment_options(READERS) == {}
    for name, text in (("MODEL", "a, b,"), ("SEED", "5"), ("TOP", "0x3"), ("NO_COLOR", " Off "), ("THEME", "")):
        monkeypatch.setenv(f"CLIPMK_{name}", text)
    with pytest.raises(UsageError, match=r"^CLIPMK_TOP is '0x3'; it must be a whole number$"):
        environment_options(READERS)
    monkeypatch.setenv("CLIPMK_TOP", "3")
    assert environment_options(READERS) == {"model": ["a", "b"], "seed": 5, "top": 3, "no_color": False}


@pytest.mark.parametrize(
    ("name", "text", "needed"),
    [("top", "0", "at least 1"), ("seed", "0.5", "a whole number"), ("no_color", "0.5", "true or false")],
)
def test_a_text_that_cannot_be_read_names_its_variable(
    clean: None, monkeypatch: pytest.MonkeyPatch, name: str, text: str, needed: str
) -> None:
    monkeypatch.setenv(f"CLIPMK_{name.upper()}", text)
    with pytest.raises(UsageError, match=f"^CLIPMK_{name.upper()} is '{text}'; it must be {needed}$"):
        environment_options(READERS)


def test_the_config_gives_the_options_that_it_has() -> None:
    assert config_options(Config()) == {}
    config = Config(model="m", vocabulary="v", seed=0, quiet=False, preset="paper", models={"m": "x"})
    assert config_options(config) == {"model": ["m"], "vocab": "v", "seed": 0, "quiet": False}


def test_options_change_the_preset_and_a_named_preset_replaces_the_settings_of_the_config() -> None:
    config = Config(preset="paper", settings={"part_count": 7, "prediction_count": 9, "seed": 4})
    assert settings_from({}, config) == preset("paper", part_count=7, prediction_count=9, seed=4)
    options = {"grounding": "attend", "seed": 0, "top": 2}
    changed = preset("paper", part_count=7, grounding="attend", seed=0, prediction_count=2)
    assert settings_from(options, config, prediction_count=10) == changed
    assert settings_from({"preset": "default"}, config, prediction_count=10) == preset("default", prediction_count=10)
