"""Model files on this machine: folders, the Hugging Face cache (`download` fills it), the switch that keeps offline.

Folders are read from names and headers alone, without torch. They may be a stranger's: every file that is read is a
regular one of a limited size, and every number in a configuration is bounded.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from clipmk.errors import ModelError, raised_as
from clipmk.models import foreign
from clipmk.system.files import read_regular
from clipmk.system.quiet import SharedPatch

CONFIG_NAME = "open_clip_config.json"
"""open_clip's name for a model's configuration, on the hub and in a folder."""
HUB_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Names of open_clip's weight files in a repository of the hub, in its order of preference. Other names, such as
`model.safetensors`, belong to other libraries that share the repository."""
WEIGHT_NAMES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    *foreign.WEIGHTS,
    "pytorch_model.pth",
    "model.pth",
)
"""Usual names of weight files in a folder, in open_clip's order of preference."""
INDEX = ".index.json"  # ending of an index of shards
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", INDEX)  # endings of weight files

_NOT_A_MODEL = re.compile(
    r"(optim|scheduler|scaler|sampler|training_args|trainer_state|rng_state|random_states|adapter_|open_clip_config)",
    re.IGNORECASE,
)
"""Beginnings of the names of files that lie beside a model's weights."""
_JSON_LIMIT = 2**22  # most bytes of a configuration or an index
_LIMITS, _LIMIT = {"layers": 1024, "image_size": 4096, "context_length": 8192}, 2**21
"""Largest numbers in a configuration, by name and any other: vocabularies have 256,000 tokens."""
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "attn_mask", "position_ids")
"""Endings of the names of tensors that are not parameters."""
_HEADER_LIMIT = 100_000_000  # the safetensors format's own limit on the bytes of a header


def expanded(path: str) -> Path:
    """A path with `~` expanded, where there is such a home."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - unlike Path.expanduser, never raises


def is_folder(path: str | Path) -> bool:
    """Whether a path is that of a folder; False for whatever cannot be one."""
    return os.path.isdir(path)  # noqa: PTH112 - unlike Path.is_dir, never raises


def is_file(path: str | Path) -> bool:
    """Whether a path is that of a regular file; False for whatever cannot be one."""
    return os.path.isfile(path)  # noqa: PTH113 - unlike Path.is_file, never raises


def config_in(folder: Path) -> Path:
    """The configuration of a model folder: open_clip's, or that of `transformers` where there is only that."""
    own, other = folder / CONFIG_NAME, folder / foreign.CONFIG_NAME
    return other if os.path.lexists(other) and not os.path.lexists(own) else own


def read_model_config(path: Path, model_id: str) -> dict[str, Any]:
    """Read a configuration (see `config_in`) as `open_clip_config.json` has it; `ModelError` where it is unusable.

    That of a converted model also has `trunk` (see `foreign.convert`).
    """
    if not is_folder(path.parent):
        raise ModelError(f"model folder {str(path.parent)!r} does not exist")
    content, subject = read_json(path, model_id), f"the file {str(path)!r} of model {model_id!r}"
    if path.name == foreign.CONFIG_NAME:
        content = foreign.convert(content, model_id)
    model = content.get("model_cfg")
    if not isinstance(model, dict):
        raise ModelError(f"{subject} has no 'model_cfg'")
    for name, part in (("vision_cfg", model), ("text_cfg", model), ("preprocess_cfg", content), ("clipmk", content)):
        if not isinstance(part.get(name) or {}, dict):
            raise ModelError(f"{subject} has a {name!r} that is not an object")
    if ":" in str((model.get("vision_cfg") or {}).get("timm_model_name")):  # a folder or a repository, not a name
        raise ModelError(f"{subject} has a timm_model_name that is not one of timm's")
    _check_numbers(model, subject)
    return content


def read_json(path: Path, model_id: str) -> dict[str, Any]:
    """Read a JSON object that belongs to a model; `ModelError` where it is missing, too large or deep, or not JSON."""
    if not os.path.lexists(path):
        raise ModelError(f"model {model_id!r} needs the file {str(path)!r}, which does not exist{_inside(path.parent)}")
    data = read_regular(path, limit=_JSON_LIMIT, noun="model configuration", error=ModelError)
    with raised_as(ModelError, f"the file {str(path)!r} of model {model_id!r} is not JSON", ValueError, RecursionError):
        content = json.loads(data)
    if not isinstance(content, dict):
        raise ModelError(f"the file {str(path)!r} of model {model_id!r} is not a JSON object")
    return content


def _inside(folder: Path) -> str:
    """What in a folder without a configuration can be named instead, as the end of a message."""
    folders = [folder, *(folder / name for name in _listed(folder) if is_folder(folder / name))]
    if configured := [str(one) for one in folders if is_configured(one)]:
        return f"; name a folder in it, such as {configured[-1]!r}"
    files = [file for one in folders for file in _weight_files(one)]
    arch = noted_architecture(files[-1]) if files else None
    return f"; name a checkpoint and its architecture: -m {files[-1]} --arch {arch or 'NAME'}" if files else ""


def noted_architecture(checkpoint: Path) -> str | None:
    """The architecture that open_clip's training has noted in `params.txt` above a checkpoint."""
    try:
        data = read_regular(checkpoint.parents[1] / "params.txt", limit=2**16, noun="file", error=ModelError)
    except (ModelError, IndexError):
        return None
    found = re.search(rb"^model: ([\w.-]+)$", data, re.MULTILINE)
    return found[1].decode() if found else None


def _check_numbers(model: Mapping[str, Any], subject: str) -> None:
    """Refuse numbers that would keep the machine busy for ever."""
    pending: list[tuple[str, Any]] = list(model.items())
    while pending:
        name, value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.items())
        elif isinstance(value, list):
            pending.extend((name, one) for one in value)
        elif isinstance(value, int | float) and not abs(value) <= _LIMITS.get(name, _LIMIT):
            raise ModelError(f"{subject} has {name!r} {value}, which is out of range")


def is_configured(folder: Path) -> bool:
    """Whether a folder has a configuration of open_clip, or one of `transformers` for a model that can be explained."""
    return os.path.lexists(folder / CONFIG_NAME) or _is_convertible(folder / foreign.CONFIG_NAME)


def _is_convertible(path: Path) -> bool:
    try:
        return is_file(path) and read_json(path, "").get("model_type") in foreign.KINDS
    except ModelError:
        return False


def weights_in(folder: Path) -> Path:
    """The weight file of a folder: by its usual name, else the only one; `ModelError` if there is not exactly one."""
    own = os.path.lexists(folder / CONFIG_NAME)
    named = [folder / name for name in (WEIGHT_NAMES if own else (*foreign.WEIGHTS, *WEIGHT_NAMES))]
    found = [path for path in named if is_file(path)] or _weight_files(folder)
    if not found:
        raise ModelError(f"model folder {str(folder)!r} has no weights ({', '.join(WEIGHT_NAMES[:6])}, ...)")
    if found[0].name not in WEIGHT_NAMES and len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ModelError(
            f"model folder {str(folder)!r} has several weight files ({names}); name one, such as {str(found[-1])!r}"
        )
    return found[0]


def _weight_files(folder: Path) -> list[Path]:
    """Files that may be a model's weights, in the natural order: `epoch_9.pt` before `epoch_10.pt`."""
    names = [name for name in _listed(folder) if name.endswith(SUFFIXES) and not _NOT_A_MODEL.match(name)]
    return [folder / name for name in names if is_file(folder / name)]


def _listed(folder: Path) -> list[str]:
    """The names in a folder in their natural order."""
    with raised_as(ModelError, f"model folder {str(folder)!r} cannot be read", OSError):
        pieces = [re.split(r"(\d+)", name) for name in os.listdir(folder)]  # noqa: PTH208 - names, not paths
    pieces.sort(key=lambda parts: [(int(part), "") if part.isdecimal() else (0, part) for part in parts])
    return ["".join(parts) for parts in pieces]


def shards(path: Path) -> list[Path]:
    """The files that hold the weights: the file itself, or the shards that an index names, which must all be there."""
    part = re.search(r"-0*(\d+)-of-0*(\d+)\.[a-z]+$", path.name)
    if part is not None and part[2] != "1":
        raise ModelError(
            f"weight file {str(path)!r} is shard {part[1]} of {part[2]}; name the folder, which must have all shards "
            "and their index (model.safetensors.index.json)"
        )
    found = [path.with_name(name) for name in shard_names(path)] or [path]
    if missing := [shard for shard in found if not is_file(shard)]:
        raise ModelError(f"weight file {str(missing[0])!r} does not exist")
    return found


def shard_names(path: Path) -> list[str]:
    """The file names in an index of shards; none for any other file."""
    if not path.name.endswith(INDEX):
        return []
    table = read_json(path, path.name).get("weight_map")
    names = sorted({str(name) for name in table.values()}) if isinstance(table, dict) else []
    if not names or any(name != Path(name).name or not name.endswith(SUFFIXES[:-1]) for name in names):
        raise ModelError(f"index {str(path)!r} has no 'weight_map' that names files beside it")
    return names


def merges_in(folder: Path, content: Mapping[str, Any], model_id: str) -> Path | None:
    """The merges of a model's own tokenizer: `bpe.txt.gz`, or as `"clipmk": {"bpe": FILE}` in its configuration."""
    named = merges_named(content)
    path = folder / (named or "bpe.txt.gz")
    if path.is_file():
        return path
    if named is not None:
        raise ModelError(f"model {model_id!r} needs the file {str(path)!r}, which does not exist")
    return None


def merges_named(content: Mapping[str, Any]) -> str | None:
    """File name of the merges that a configuration asks for; None where it names none."""
    named = (content.get("clipmk") or {}).get("bpe")
    return None if named is None else Path(str(named)).name


def stored_parameters(path: Path) -> int | None:
    """Number of parameters in safetensors files; None for other files and for a header that cannot be read."""
    try:
        counts = [_header_parameters(shard) for shard in shards(path)]
        return sum(counts) if path.name.endswith((".safetensors", ".safetensors.index.json")) else None
    except (ModelError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _header_parameters(path: Path) -> int:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _HEADER_LIMIT:
            raise ValueError(size)
        header: dict[str, Any] = json.loads(file.read(size))
    kept = [name for name in header if name != "__metadata__" and not name.endswith(_BUFFERS)]
    return sum(int(math.prod(header[name]["shape"])) for name in kept)


def candidates(address: str) -> tuple[str, tuple[str, ...]]:
    """Repository and file names, the preferred ones first, of open_clip's "org/repo/" or "org/repo/file".

    As open_clip has it: safetensors instead of a named `.bin` or `.pth`.
    """
    repository, _, name = address.rpartition("/")
    if name in {"", HUB_WEIGHTS[-1]}:
        return repository, HUB_WEIGHTS
    safe = [Path(name).with_suffix(".safetensors").name] if name.endswith((".bin", ".pth")) else []
    return repository, (*safe, name)


def cache_folder() -> Path:
    """Folder of the hub's files: HF_HUB_CACHE, or `hub` in HF_HOME. It need not exist."""
    return Path(_constants().HF_HUB_CACHE)


def _constants() -> Any:
    import huggingface_hub.constants  # noqa: PLC0415 - light, but embedded models do not need it

    return huggingface_hub.constants


def folder_name(repository: str) -> str:
    """Name of a repository's folder in the cache."""
    return f"models--{repository.replace('/', '--')}"


def cached_file(repository: str, names: Sequence[str]) -> Path | None:
    """The first of `names` in the local cache; makes no network request."""
    if not is_folder(cache_folder() / folder_name(repository)):
        return None
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - 0.3 s

    for name in names:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    return None


def cached_model(repository: str) -> tuple[Path, Path] | None:
    """Configuration and weights of a repository in the cache: open_clip's, else those made for `transformers`."""
    for config_name, names in ((CONFIG_NAME, HUB_WEIGHTS), (foreign.CONFIG_NAME, foreign.WEIGHTS)):
        config, weights = cached_file(repository, [config_name]), cached_file(repository, names)
        if config is None or weights is None:
            continue
        with suppress(ModelError):  # a pull may have been stopped before all shards were here
            if config_name == CONFIG_NAME or (_is_convertible(config) and shards(weights)):
                return config, weights
    return None


def cached_models() -> dict[str, tuple[Path, Path]]:
    """Configuration and weights of the repositories in the cache that have both; none if it is somebody else's."""
    found = cache_folder().glob("models--*--*") if is_folder(cache_folder()) else ()
    names = sorted(path.name for path in found if is_folder(path))
    repositories = [name.removeprefix("models--").replace("--", "/", 1) for name in names]
    return {name: model for name in repositories if (model := cached_model(name)) is not None}


@contextmanager
def offline() -> Iterator[None]:
    """Forbid requests to the hub in this thread: tokenizers of `transformers` ask for news even of local files."""
    before = _offline.set(True)
    try:
        with _offline_patch:
            yield
    finally:
        _offline.reset(before)


class _OfflineSwitch:
    """Stands in for the client's own switch: true in an offline thread, what it was in the others."""

    def __init__(self, original: bool) -> None:
        self._original = original

    def __bool__(self) -> bool:
        return self._original or _offline.get()


_offline = ContextVar("offline", default=False)  # every thread has a context of its own
_offline_patch = SharedPatch(_constants, "HF_HUB_OFFLINE", _OfflineSwitch)
