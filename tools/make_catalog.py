"""Write down what open_clip holds, so that `clipmk models` need not import it.

python tools/make_catalog.py > core/clipmk/assets/open_clip.json

Every architecture is built once without memory (device "meta") to count its parameters. Where the text tower's
configuration lies on the hub, the count is null.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

from clipmk.backbones.library import open_clip
from clipmk.models.inventory import read_architecture
from clipmk.models.loading import build
from clipmk.models.spec import ModelSpec


def parameters(name: str, config: dict[str, Any]) -> int | None:
    """Number of parameters of an architecture; None where `transformers` has to fetch a part of it."""
    if config["text_cfg"].get("hf_model_name"):
        return None
    entry = read_architecture(name, config).entry(f"{name}:random", source="local")
    model = build(ModelSpec(entry=entry, config=config, preprocess={}), device="meta")
    return sum(parameter.numel() for parameter in model.parameters())


def architecture(name: str) -> dict[str, Any]:
    config = open_clip().get_model_config(name)
    facts = dataclasses.asdict(read_architecture(name, config, parameters=parameters(name, config)))
    del facts["name"]
    return facts


def main() -> None:
    library = open_clip()
    architectures = {}
    for name in library.list_models():
        print(name, file=sys.stderr)
        architectures[name] = architecture(name)
    pairs = []
    for name, tag in library.list_pretrained():
        settings = library.get_pretrained_cfg(name, tag)
        pairs.append([name, tag, settings.get("hf_hub", ""), bool(settings.get("quick_gelu", False))])
    print(_text({"open_clip": library.__version__, "architectures": architectures, "pairs": pairs}))


def _text(content: dict[str, Any]) -> str:
    """JSON with a line for each architecture and pair, so that a diff can be read."""
    known = ",\n".join(f"  {json.dumps(name)}: {json.dumps(facts)}" for name, facts in content["architectures"].items())
    pairs = ",\n".join(f"  {json.dumps(pair)}" for pair in content["pairs"])
    version = json.dumps(content["open_clip"])
    return f'{{"open_clip": {version},\n "architectures": {{\n{known}\n }},\n "pairs": [\n{pairs}\n ]}}'


if __name__ == "__main__":
    main()
