"""The options of `clipmk explain` and `clipmk compare`, complete and checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from clipmk.errors import UsageError
from clipmk.system.config import DEFAULT_MODEL, read_config, settings_from
from clipmk.system.text import quoted
from clipmk.vocabulary.classes import read_texts
from clipmk.vocabulary.reader import ask_texts, checked_text, cleaned
from clipmk.worker.session import Session
from clipmk_tui.cli.options import output_path

Form = Literal["text", "json", "jsonl"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainOptions:
    """All options; the images are apart."""

    models: tuple[str, ...]
    default_model: bool  # no model was named
    session: Session  # what explains, with which classes
    target: str | None
    asks: tuple[str, ...]  # texts to answer
    serve: bool  # ask a running server
    form: Form
    overlay: Path | None
    html: Path | None
    picture: bool  # draw pictures in the terminal
    quiet: bool
    verbose: bool
    no_color: bool

    @property
    def keep_pictures(self) -> bool:
        """Whether anything that is written shows pictures."""
        return self.form == "text" or self.overlay is not None or self.html is not None


def explain_options(params: Mapping[str, Any]) -> ExplainOptions:
    """Read and check every option; those that only `clipmk explain` has may be missing in the parameters."""
    if params["json"] and params.get("jsonl"):
        raise UsageError("--json prints one document, --jsonl one line per result; choose one of them")
    added = params.get("add_class") or ()
    session = Session(
        vocabulary=params["vocab"],
        added_classes=tuple(checked_text(cleaned(name, []), f"--add-class {quoted(name[:80])}") for name in added),
        settings=settings_from(params, read_config()),
        cache=not params["no_cache"],
        **{name: params[name] for name in ("classes", "device", "precision", "arch", "download")},
    )
    texts = params.get("ask") or []
    if (path := params.get("ask_file")) is not None:
        texts = [*texts, *read_texts(path)]
    return ExplainOptions(
        models=tuple(dict.fromkeys(params["model"])) or (DEFAULT_MODEL,),
        default_model=not params["model"],
        session=session,
        asks=ask_texts(texts),
        serve=params.get("serve", False),
        form="json" if params["json"] else "jsonl" if params.get("jsonl") else "text",
        overlay=output_path("overlay", params.get("overlay"), ".png"),
        html=output_path("html", params.get("html"), ".html"),
        picture=not params.get("no_picture", True),
        **{name: params[name] for name in ("target", "quiet", "verbose", "no_color")},
    )
