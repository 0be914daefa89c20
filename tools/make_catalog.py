"""Write down what open_clip holds, so that `clipmk models` need not import it.

python tools/make_catalog.py > core/clipmk/assets/open_clip.json

Every architecture is built once without memory (device "meta") to count its parameters. Where the text tower's
configuration lies on the hub, the count is null.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from clipmk.backbones.library import open_clip
from clipmk.models.inventory import read_architecture
from clipmk.models.loading import build
from clipmk.models.spec import ModelSpec

FACTS = ("family", "input_size", "embed_dim", "needs_transformers", "parameters")


def parameters(name: str, config: dict[str, Any]) -> int | None:
    """Number of parameters of an architecture; None where `transformers` has to fetch a part of it."""
    if config["text_cfg"].get("hf_model_name"):
        return None
    model = build(ModelSpec(entry=read_architecture(name, config), config=config, preprocess={}), device="meta")
    return sum(parameter.numel() for parameter in model.parameters())


def architecture(name: str) -> dict[str, Any]:
    config = open_clip().get_model_config(name)
    entry = read_architecture(name, config, parameters=parameters(name, config))
    return {fact: getattr(entry, fact) for fact in FACTS}


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
    quick_gelu = [name for name in architectures if library.get_model_config(name).get("quick_gelu", False)]
    head = {"open_clip": library.__version__, "quick_gelu": quick_gelu}
    print(_text({**head, "architectures": architectures, "pairs": pairs}))


def _text(content: dict[str, Any]) -> str:
    """JSON with a line for each architecture and pair, so that a diff can be read."""
    known = ",\n".join(f"  {json.dumps(name)}: {json.dumps(facts)}" for name, facts in content["architectures"].items())
    pairs = ",\n".join(f"  {json.dumps(pair)}" for pair in content["pairs"])
    head = "".join(f' "{key}": {json.dumps(content[key])},\n' for key in ("open_clip", "quick_gelu"))
    return f'{{{head.strip()}\n "architectures": {{\n{known}\n }},\n "pairs": [\n{pairs}\n ]}}'


if __name__ == "__main__":
    main()
