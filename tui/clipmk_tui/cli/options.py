"""The options that commands share, as types: names, help, completion, environment variable.

An option that the command line does not give comes from its variable, then from the config (`with_config`).
"""

import inspect
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin

import typer

from clipmk.errors import ClipmkError, UsageError, suggest
from clipmk.settings import PRESETS
from clipmk.system.config import comma_separated, config_options, read_config, variable
from clipmk.system.text import quoted
from clipmk_tui.cli.errors import remember
from clipmk_tui.cli.streams import logging_to_stderr

INPUT, SETTINGS, OUTPUT, MESSAGES = "Input", "Settings", "Output", "Messages"  # panels of the help


def option(panel: str | None, name: str, text: str, *short: str, **more: Any) -> Any:
    """Declare the option `--name` that `CLIPMK_<NAME>` and, if it has such a key, the config give as well.

    `short` is `-n`, or `--no-name` for a switch that can be turned off; `more` goes to `typer.Option`.
    """
    return flag(panel, name, text, *short, envvar=variable(name), **more)


def flag(panel: str | None, name: str, text: str, *short: str, **more: Any) -> Any:
    """Declare an option that only the command line gives."""
    flags = [f"--{name.replace('_', '-')}", *short]
    if len(flags) > 1 and flags[1].startswith("--no-"):
        flags = ["/".join(flags)]
    return typer.Option(*flags, help=text, rich_help_panel=panel, show_envvar=False, show_default=False, **more)


def on_command_line(ctx: typer.Context, name: str) -> bool:
    """Whether the command line gives an option, not the environment or the config."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def output_path(option: str, text: str | None, suffix: str) -> Path | None:
    """The file that an option names; `UsageError` if it has another ending."""
    if text is None:
        return None
    path = Path(text).expanduser()
    if path.suffix.lower() != suffix:
        raise UsageError(f"--{option} {text!r} must end in {suffix}")
    return path


def check_known(what: str, name: str | None, known: Iterable[str]) -> None:
    """Refuse a name that does not exist by a `UsageError` that says which are close."""
    if name is not None and name not in (names := tuple(known)):
        raise UsageError(f"{what} {quoted(name)} does not exist; {suggest(name, names)}")


def with_config(command: Any, *, tolerant: bool, quiet: bool) -> None:
    """Let the config give options that neither the command line nor the environment gives.

    A malformed config raises `UsageError`, or counts as empty if `tolerant`. If `quiet`, nothing is said about a config
    in somebody else's home, which is ignored.
    """
    commands, found = [command], []
    while commands:
        one = commands.pop()
        commands += getattr(one, "commands", {}).values()
        if names := {param.name for param in one.params if param.envvar}:
            found.append((one, names))
    if not found:
        return
    try:
        with logging_to_stderr(quiet=quiet, verbose=False):
            values = config_options(read_config())
    except UsageError:
        if not tolerant:
            raise
        return
    for one, names in found:
        one.context_settings["default_map"] = {name: value for name, value in values.items() if name in names}


def _starting(known: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in known if name.startswith(incomplete)]


def complete_model(incomplete: str) -> list[str]:
    """Embedded and registered models: those that are known without importing open_clip."""
    from clipmk.models.catalog import embedded_names  # noqa: PLC0415

    return [*_starting(embedded_names(), incomplete), *complete_registered(incomplete)]


def complete_registered(incomplete: str) -> list[str]:
    """Models registered in the config."""
    from clipmk.models.catalog import registered_models  # noqa: PLC0415

    try:
        return _starting(registered_models(), incomplete)
    except ClipmkError:  # a malformed config must not break the shell
        return []


def complete_vocabulary(incomplete: str) -> list[str]:
    """Shipped vocabularies."""
    from clipmk.vocabulary.vocabulary import available  # noqa: PLC0415

    return _starting(available(), incomplete)


def _models(ctx: typer.Context, value: list[str] | None) -> list[str]:
    """`CLIPMK_MODEL` separates models by commas; Typer would split it at blanks."""
    source = ctx.get_parameter_source("model")
    if source is not None and source.name == "ENVIRONMENT":
        return comma_separated(os.environ[variable("model")])
    return list(value or ())


def _remember(ctx: typer.Context, value: bool) -> bool:
    remember(ctx)
    return value


def _one_of(*known: str, more: str = "") -> dict[str, Any]:
    return {"metavar": "|".join(known) + more, "autocompletion": lambda incomplete: _starting(known, incomplete)}


Images = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE", help="Files, folders (not recursive), patterns, or - for standard input."),
]
Models = Annotated[
    list[str] | None,
    option(
        INPUT,
        "model",
        "embedded/NAME, NAME:TAG as open_clip prints it, hf-hub:ORG/REPO, a model folder, a checkpoint file "
        "(--arch if it has no configuration), or a name from the config. May be repeated.",
        "-m",
        metavar="MODEL",
        autocompletion=complete_model,
        callback=_models,
    ),
]
Classes = Annotated[
    str | None,
    option(INPUT, "classes", "Replace the vocabulary's classes; its descriptors stay.", metavar="a,b,c|FILE"),
]
_VOCAB = "Vocabulary; embedded models bring their own."
Vocabulary = Annotated[
    str | None, option(INPUT, "vocab", _VOCAB, metavar="NAME|FILE", autocompletion=complete_vocabulary)
]
Target = Annotated[
    str | None, option(INPUT, "target", "Explain this class instead of the predicted one.", metavar="CLASS")
]
AskFile = Annotated[str | None, flag(INPUT, "ask_file", "Ask for each line of a file.", metavar="FILE")]
ARCH_HELP = "open_clip architecture of a checkpoint file without a configuration."
Arch = Annotated[str | None, option(INPUT, "arch", ARCH_HELP, metavar="NAME")]
Download = Annotated[bool, option(INPUT, "download", "Download missing weights (never done otherwise).")]
_IMAGE_COLUMN = "Column of a table that names the images, or holds them."
ImageColumn = Annotated[str | None, flag(INPUT, "image_column", _IMAGE_COLUMN, metavar="NAME")]
LabelColumn = Annotated[str | None, flag(INPUT, "label_column", "Column of a table with the labels.", metavar="NAME")]
_PRESET = "Settings preset; 'paper' follows the publication exactly."
Preset = Annotated[str | None, option(SETTINGS, "preset", _PRESET, **_one_of(*PRESETS))]
_GROUNDING = "How parts are embedded: drawn prompts, or masked attention pooling (faster)."
Grounding = Annotated[str | None, option(SETTINGS, "grounding", _GROUNDING, **_one_of("prompts", "attend"))]
Seed = Annotated[int | None, option(SETTINGS, "seed", "Random seed.", metavar="N")]
Device = Annotated[
    str, option(SETTINGS, "device", "Where the model runs.", **_one_of("auto", "cpu", "cuda", "mps", more="|cuda:N"))
]
Precision = Annotated[str, option(SETTINGS, "precision", "Precision of the model.", **_one_of("fp32", "bf16", "fp16"))]
Serve = Annotated[
    bool, option(SETTINGS, "serve", "Ask a running `clipmk serve` (the default), or never.", "--no-serve")
]
NoCache = Annotated[bool, option(SETTINGS, "no_cache", "Neither read nor write the text embedding cache.")]
Json = Annotated[bool, option(OUTPUT, "json", "Print one JSON document.")]
Top = Annotated[int | None, option(OUTPUT, "top", "Number of classes to report.", metavar="N", min=1)]
Quiet = Annotated[bool, option(MESSAGES, "quiet", "Hide notes, warnings and progress.", "-q")]
Verbose = Annotated[bool, option(MESSAGES, "verbose", "List every concept, and log to stderr.", "-v")]
NoColor = Annotated[bool, option(MESSAGES, "no_color", "Print without colours.")]
Debug = Annotated[
    bool, option(MESSAGES, "debug", "Print the traceback of an error.", callback=_remember, is_eager=True)
]

Command = TypeVar("Command", bound=Callable[..., int])

_SHARED: Final = {
    get_args(alias)[1].default.partition("/")[0].strip("-").replace("-", "_"): alias
    for alias in [*globals().values()]
    if get_origin(alias) is Annotated and isinstance(get_args(alias)[1], typer.models.OptionInfo)
}
"""Name of the parameter -> the type above."""
_DEFAULTS: Final = {"device": "auto", "precision": "fp32", "serve": True}  # of other shared options: off, or None


def takes(names: str) -> Callable[[Command], Command]:
    """Give a command its options, in the order of its help: those in its signature, and shared ones.

    The shared ones, `**_` in the signature, are read from Typer's context.
    """

    def with_options(command: Command) -> Command:
        parameters = dict(inspect.signature(command, eval_str=True).parameters)
        for name in names.split():
            if name not in parameters:
                alias = _SHARED[name]
                default = _DEFAULTS.get(name, False if get_args(alias)[0] is bool else None)
                kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
                parameters[name] = inspect.Parameter(name, kind, default=default, annotation=alias)
        every = [parameters[name] for name in ("ctx", *names.split())]
        vars(command)["__signature__"] = inspect.Signature(every)
        return command

    return with_options
