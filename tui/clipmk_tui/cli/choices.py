"""What the user wants explained and how: each choice by flag, else environment, else config file, else default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from clipmk.errors import UsageError
from clipmk.settings import PRESETS, Settings
from clipmk.settings import preset as settings_of
from clipmk.system.config import Config, choose, read_config
from clipmk.system.locations import config_path
from clipmk.system.options import DEFAULT_MODEL, variable
from clipmk.system.text import quoted

Form = Literal["text", "json", "jsonl"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Everything that `clipmk explain` was asked for, besides the images."""

    models: tuple[str, ...]
    default_model: bool
    """Nobody named a model."""
    vocabulary: str | None
    """Name or file; None: the model's own."""
    classes: str | None
    target: str | None
    settings: Settings
    device: str
    precision: str
    arch: str | None
    download: bool
    cache: bool
    serve: bool
    """Ask a server where there is one."""
    form: Form
    overlay: Path | None
    html: Path | None
    picture: bool
    quiet: bool
    verbose: bool
    no_color: bool


def choices_from(flags: Mapping[str, Any]) -> Choices:
    """Settle every choice of `clipmk explain`.

    Args:
        flags: the command's parameters by name; None (or empty) where a flag was not given.

    Raises:
        UsageError: the config or an environment variable is malformed, a value does not exist, or two exclude each
            other.
    """
    config = read_config()
    models = models_from(flags, config)

    def text(name: str, config_value: str | None = None) -> str | None:
        flag: str | None = flags[name]
        return choose(flag, variable(name), config_value, None)

    return Choices(
        models=models or (DEFAULT_MODEL,),
        default_model=not models,
        vocabulary=text("vocab", config.vocabulary),
        classes=text("classes", config.classes),
        target=text("target"),
        settings=settings_from(flags, config),
        device=choose(flags["device"], variable("device"), config.device, "auto"),
        precision=choose(flags["precision"], variable("precision"), config.precision, "fp32"),
        arch=text("arch"),
        download=choose(flags["download"], variable("download"), config.download, False),
        cache=not choose(flags["no_cache"], variable("no_cache"), None, False),
        serve=choose(flags["serve"], variable("serve"), None, True),
        form=_form(flags),
        overlay=_path(text("overlay"), ".png"),
        html=_path(text("html"), ".html"),
        picture=not choose(flags["no_picture"], variable("no_picture"), None, False),
        **manners(flags, config),
    )


def models_from(flags: Mapping[str, Any], config: Config) -> tuple[str, ...]:
    """Models named by `-m` (repeatable), `CLIPMK_MODEL` (comma-separated) or the config; empty where nobody did."""
    return tuple(dict.fromkeys(models_named(flags, config)))


def models_named(flags: Mapping[str, Any], config: Config) -> list[str]:
    """The same as often as they are named."""
    named = choose(list(flags["model"] or ()) or None, variable("model"), None, [], parse=_listed)
    return named or ([config.model] if config.model else [])


def manners(flags: Mapping[str, Any], config: Config) -> dict[str, bool]:
    """How much is said, and whether in colour: `quiet`, `verbose`, `no_color`."""
    return {
        "quiet": choose(flags["quiet"], variable("quiet"), config.quiet, False),
        "verbose": choose(flags["verbose"], variable("verbose"), config.verbose, False),
        "no_color": choose(flags["no_color"], variable("no_color"), config.no_color, False),
    }


def settings_from(flags: Mapping[str, Any], config: Config, *, prediction_count: int | None = None) -> Settings:
    """The preset and what changes it. A preset named by flag or environment outranks the config's [settings].

    Args:
        flags: "preset", "grounding", "seed" and "top"; None where a flag was not given.
        config: what the config file says.
        prediction_count: how many classes are reported where nobody says it; None: as many as the preset does.

    Raises:
        UsageError: the preset or a value does not exist.
    """
    named = choose(flags["preset"], variable("preset"), None, "")
    changes: dict[str, Any] = {} if named else dict(config.settings)
    name = named or config.preset or "default"
    base = PRESETS.get(name, Settings())
    changes["grounding"] = choose(flags["grounding"], variable("grounding"), changes.get("grounding"), base.grounding)
    changes["seed"] = choose(
        flags["seed"], variable("seed"), config.seed if config.seed is not None else changes.get("seed"), base.seed
    )
    changes["prediction_count"] = choose(
        flags["top"], variable("top"), changes.get("prediction_count"), prediction_count or base.prediction_count
    )
    try:
        return settings_of(name, **changes)
    except UsageError as error:
        raise UsageError(_as_the_user_said(str(error), flags, changes)) from error


def _as_the_user_said(message: str, flags: Mapping[str, Any], changes: Mapping[str, Any]) -> str:
    """What is wrong with a setting, by the name of the option or variable, or with the file that it comes from."""
    setting = message.split(" ", 1)[0]
    if setting == "prediction_count" and flags["top"] is not None:
        return message.replace(setting, "--top", 1)
    if setting == "prediction_count" and os.environ.get(variable("top")):
        return message.replace(setting, variable("top"), 1)
    from_config = isinstance(changes.get(setting), int | float)  # where a text comes from is told by `origins`
    return f"{message} (it was set in the config {quoted(config_path())})" if from_config else message


def _form(flags: Mapping[str, Any]) -> Form:
    document = choose(flags["json"], variable("json"), None, False)
    lines = choose(flags["jsonl"], variable("jsonl"), None, False)
    if document and lines:
        raise UsageError("--json is one document, --jsonl is one line per result; choose one of them")
    return "json" if document else "jsonl" if lines else "text"


def _path(text: str | None, suffix: str) -> Path | None:
    if text is None:
        return None
    path = Path(text).expanduser()
    if path.suffix.lower() != suffix:
        raise UsageError(f"--{suffix_option(suffix)} {text!r} must end in {suffix}")
    return path


def suffix_option(suffix: str) -> str:
    """The option that writes files with this ending."""
    return "overlay" if suffix == ".png" else "html"


def _listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
