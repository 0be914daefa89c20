"""What the app begins with: every option is settled, everything impossible refused. Imports no Textual."""

import contextlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from clipmk.errors import ClipmkError, InputError, UsageError, suggest
from clipmk.system import config as system_config
from clipmk.system.config import read_config
from clipmk.system.text import quoted
from clipmk.worker.session import Session
from clipmk_tui.app.folder_choices import FolderChoice, folder_of, kept_choice
from clipmk_tui.show.pixels import GRAPHICS

PREDICTION_COUNT = 10  # classes reported by default: "why not B?" needs no model for these
DEFAULT_VOCABULARY = "world"  # the default model's own

_READERS: Final[dict[str, Callable[[str], Any]]] = {
    **dict.fromkeys(("vocab", "classes", "arch", "preset", "grounding", "device", "precision", "theme"), str),
    "model": system_config.comma_separated,
    "seed": system_config.whole_number,
    "top": system_config.positive_number,
    "download": system_config.switch,
    "serve": system_config.switch,
    "no_color": system_config.switch,
    "graphics": str,
    "debug": system_config.switch,
}
"""The app's options, and what reads the environment's text of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """Everything that the app begins with."""

    paths: tuple[str, ...] = ()
    """Images, folders and patterns as the user gave them; none: the app looks for some."""
    study: Path | None = None
    """Folder of a study, whose table of images is shown first; then there are no `paths`."""
    models: tuple[str, ...]  # the first is the start model, the others are marked for comparison
    session: Session
    default: FolderChoice | None = None
    """What explains folders for which nothing is kept; None: the same as the session."""
    theme: str | None = None  # None: the default one
    keys: Mapping[str, str] = field(default_factory=dict)
    """Id of a binding -> its keys, checked (see `user_keys`) before the app is made."""
    no_color: bool = False
    graphics: str = "half-blocks"  # how pictures are drawn: one of `GRAPHICS`
    serve: bool = True  # use a `clipmk serve` where one runs
    note: str = ""  # what the app says once it has begun
    debug: bool = False  # print the engine's own log, with its tracebacks, when the app has ended


def resolve_start_options(paths: Sequence[str], options: Mapping[str, Any]) -> StartOptions:
    """Settle every option: command line, else environment (CLIPMK_*), else config, else default.

    A study is explained as it was made, as far as nothing else is asked for.

    Raises `UsageError` or `InputError` for what is malformed, does not exist or cannot be used.
    """
    config = read_config()
    asked = system_config.environment_options(_READERS)
    asked |= {name: value for name, value in options.items() if value is not None and value != ()}
    chosen = system_config.config_options(config) | asked
    study, note, usual = _study(paths), "", chosen
    if study is not None:
        made, note = _made_of(study, asked)
        chosen = usual = chosen | made
    elif not {"vocab", "classes"} & asked.keys():  # the config's come after it
        found, note = _kept(folder_of(paths))
        chosen = chosen | found if found else chosen
    models = tuple(dict.fromkeys(chosen.get("model") or [system_config.DEFAULT_MODEL]))
    classes = chosen.get("classes")
    session = Session(
        vocabulary=_vocabulary(chosen.get("vocab"), models[0], chosen.get("arch")),
        classes=classes,
        settings=chosen.get("settings")
        or system_config.settings_from(chosen, config, prediction_count=PREDICTION_COUNT),
        **{name: chosen[name] for name in ("device", "precision", "arch", "download") if name in chosen},
    )
    if classes is not None:
        from clipmk.vocabulary.classes import parse_classes  # noqa: PLC0415

        parse_classes(classes)
    graphics = chosen.get("graphics", "auto")
    if graphics not in GRAPHICS:
        raise UsageError(f"graphics {quoted(graphics)} does not exist; {suggest(graphics, GRAPHICS)}")
    for path in paths:
        check_path(path)
    return StartOptions(
        paths=tuple(paths) if study is None else (),
        study=study,
        models=models,
        session=session,
        default=None if usual is chosen else _default(usual, models[0], session.vocabulary),
        keys=dict(config.keys),
        graphics=graphics,
        note=note,
        **{name: chosen[name] for name in ("theme", "no_color", "serve", "debug") if name in chosen},
    )


def _study(paths: Sequence[str]) -> Path | None:
    """The folder of the study that is the only argument."""
    folder = Path(paths[0]).expanduser() if len(paths) == 1 and "\0" not in paths[0] else None
    return folder if folder is not None and os.path.lexists(folder / "study.json") else None


def _made_of(study: Path, asked: Collection[str]) -> tuple[dict[str, Any], str]:
    """What a study was made with, but for what is asked for; and what of it cannot be had.

    InputError if its manifest is damaged or of another version.
    """
    from clipmk.settings import Settings  # noqa: PLC0415
    from clipmk.study.manifest import StudyFolder, read_manifest  # noqa: PLC0415
    from clipmk.system.serialization import from_plain  # noqa: PLC0415
    from clipmk.vocabulary.vocabulary import load_vocabulary  # noqa: PLC0415

    manifest, notes = read_manifest(StudyFolder(study).manifest), []
    words = manifest.vocabulary
    made: dict[str, Any] = {} if "model" in asked else {"model": [model.id for model in manifest.models]}
    if not {"vocab", "classes"} & {*asked}:
        with contextlib.suppress(ClipmkError):
            made |= {"vocab": words.name} if load_vocabulary(words.name).sha256 == words.sha256 else {}
        notes += (
            [] if "vocab" in made else [f"the study's vocabulary {quoted(words.name)} is not here: name it (--vocab)"]
        )
        made["classes"] = None
    if not {"preset", "grounding", "seed", "top"} & {*asked}:
        settings = from_plain(Settings, manifest.settings)
        made["settings"] = replace(settings, fit="image", prediction_count=PREDICTION_COUNT)
        notes += ["parts are found image by image here, in the study together"] if settings.fit == "batch" else []
    return made, "; ".join(notes)


def _kept(folder: str) -> tuple[dict[str, str], str]:
    """Vocabulary and classes that the user keeps for a folder; or why they cannot be used."""
    try:
        kept = kept_choice(folder)
        if kept is None:
            return {}, ""
        from clipmk.vocabulary.classes import parse_classes  # noqa: PLC0415
        from clipmk.vocabulary.vocabulary import load_vocabulary  # noqa: PLC0415

        load_vocabulary(kept.vocabulary)
        if kept.classes is not None:
            parse_classes(kept.classes)
    except (UsageError, InputError) as error:
        return {}, f"what you keep for {folder} is not used: {error}"
    return {"vocab": kept.vocabulary} | ({} if kept.classes is None else {"classes": kept.classes}), ""


def _default(chosen: Mapping[str, Any], model: str, vocabulary: str | None) -> FolderChoice:
    """What explains the images where nothing is kept for a folder; `vocabulary` where none is chosen or known."""
    try:
        named = _vocabulary(chosen.get("vocab"), model, chosen.get("arch"))
    except (UsageError, InputError):
        named = vocabulary or DEFAULT_VOCABULARY
    return FolderChoice(named, chosen.get("classes"))


def check_path(path: str) -> None:
    """Refuse a path that names no image, without listing any folder; "-" is refused, too: keys come from there."""
    if path == "-":
        raise UsageError("the app reads its keys from standard input; for an image from there: clipmk explain -")
    if not os.path.lexists(os.path.expanduser(path)):  # noqa: PTH111 - a pattern is not a path
        from clipmk_tui.app.image_list import existing  # noqa: PLC0415 - not for the bare command

        existing(path)


def _vocabulary(named: str | None, model: str, arch: str | None) -> str:
    """The vocabulary's name, checked by loading it; without one, the start model's own."""
    if named is None and model == system_config.DEFAULT_MODEL:  # the usual start: nothing is imported for it
        return DEFAULT_VOCABULARY
    from clipmk.vocabulary.vocabulary import default_vocabulary, load_vocabulary  # noqa: PLC0415

    if named is None:
        try:
            return default_vocabulary(model)
        except UsageError:
            from clipmk.models.spec import resolve  # noqa: PLC0415 - open_clip: seconds

            resolve(model, arch=arch)  # a model that does not exist, or has no tag, is reported first
            raise
    load_vocabulary(named)
    return named
