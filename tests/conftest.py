"""Shared by the tests: golden files, the command line in this process, places of a test's own, models loaded once."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import jsonschema
import pytest
from PIL import Image

import samples
from clipmk.output import document
from clipmk.world.scene import render_scenes
from clipmk_tui.__main__ import main
from command_line import Ran, Runner

GOLDEN = Path(__file__).parent / "golden"


# A machine that stands still for a second is no fault of the code; the same examples each time, so that a change is
# never refused for what it did not touch. `--hypothesis-profile=search` looks for new ones.
_TIMELESS = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("steady", _TIMELESS, derandomize=True)
hypothesis.settings.register_profile("search", _TIMELESS, max_examples=1000)
hypothesis.settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew; then read the diff")
    parser.addoption("--gpu", action="store_true", help="run the tests marked cuda on the GPU of this machine")


def pytest_configure() -> None:
    """Let interrupts reach the tests, and what they start, where a shell runs them in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What is loaded by now stays, and what tests leave behind is small: garbage is looked for rarely, not in all."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with a file of tests/golden."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"{name} differs; pytest --update-golden writes it anew"

    return compare


@pytest.fixture(scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True, scope="session")
def _no_config_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPMK_CONFIG", str(tmp_path_factory.mktemp("config") / "config.toml"))
        yield


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, _cache: Path) -> None:
    """No config, no variable of ours, a cache of this test run, nothing downloaded, a working folder of our own."""
    for name in [name for name in os.environ if name.startswith("CLIPMK_")]:
        monkeypatch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "COLORTERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLIPMK_CACHE_DIR", str(_cache))
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("CLIPMK_SOCKET", str(tmp_path / "serve.sock"))  # where no server listens
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def texts_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own: the folder in it for embedded texts, which is not there yet."""
    monkeypatch.setenv("CLIPMK_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "texts"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to resolve or reach a host fails as on a machine without a network, and is noticed."""

    def refuse(*arguments: Any, **_: Any) -> None:
        raise socket.gaierror(f"no network in this test: {arguments[:2]}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty config file that a test may fill."""
    path = tmp_path / "config.toml"
    monkeypatch.setenv("CLIPMK_CONFIG", str(path))
    return path


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    """Where a server may listen, in a folder that is not there yet."""
    return tmp_path / "private" / "s.sock"


@pytest.fixture
def clipmk(clean: None, capfd: pytest.CaptureFixture[str]) -> Runner:
    """Run the command line in this process; what it writes is caught at the file descriptors."""

    def run(*argv: object) -> Ran:
        capfd.readouterr()
        status = main([str(argument) for argument in argv])
        return Ran(status, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def scene_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three pictures of the rendered world as PNG files."""
    folder = tmp_path_factory.mktemp("scenes")
    paths = []
    for scene in render_scenes("test", count=3, seed=0):
        path = folder / f"{scene.class_name}.png"
        Image.fromarray(scene.image).save(path)
        paths.append(path)
    return paths


@pytest.fixture
def images(scene_files: list[Path]) -> list[str]:
    """Their paths as requests name them."""
    return [str(path) for path in scene_files]


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pictures of foxes and one of a cat, in class folders; no config of the user's."""
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "config.toml"))
    folder = tmp_path / "album"
    for name in ("cat/a.png", "fox/b.png", "fox/c.png", "fox/d.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        samples.picture().save(folder / name)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model with random weights, as a folder."""
    import backbone_zoo  # noqa: PLC0415 - not for tests that need no model

    folder = tmp_path_factory.mktemp("tiny") / "vit"
    backbone_zoo.save(folder, backbone_zoo.model_config("vit"))
    return f"local-dir:{folder}"


@pytest.fixture
def fake_cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A device `cuda` that computes on the CPU and counts host waits (see `fake_cuda.Waits`); with --gpu a real one."""
    import fake_cuda  # noqa: PLC0415 - not for tests that need no model

    if request.config.getoption("--gpu"):
        yield None
        return
    with fake_cuda.installed(monkeypatch) as waits:
        yield waits


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Torch computes on two threads, as with its own default on most machines; other tests use one."""
    import torch  # noqa: PLC0415 - not for tests that need no model

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def _models() -> dict[str, Any]:
    return {}


@pytest.fixture
def loaded_once(monkeypatch: pytest.MonkeyPatch, _models: dict[str, Any]) -> None:
    """Every model is loaded by the real loader, once for all tests."""
    import torch  # noqa: PLC0415 - not for tests that need no model

    from clipmk.models import loading  # noqa: PLC0415
    from clipmk.models.loading import load as real_load  # noqa: PLC0415

    torch.set_num_threads(1)

    def load(model: str, **options: Any) -> Any:
        key = f"{model} {sorted(options.items())}"
        if key not in _models:
            _models[key] = real_load(model, **options)
        return _models[key]

    monkeypatch.setattr(loading, "load", load)  # `setattr` would leave there what is resolved on first use


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Any]]:
    """kind -> (backbone loaded from its folder, the plain open_clip model whose weights it holds)."""
    from backbone_zoo import model_config, save  # noqa: PLC0415 - not for tests that need no model
    from clipmk.models.loading import load  # noqa: PLC0415

    loaded: dict[str, tuple[Any, Any]] = {}

    def get(kind: str) -> tuple[Any, Any]:
        if kind not in loaded:
            folder = tmp_path_factory.mktemp("zoo") / kind
            plain = save(folder, model_config(kind))
            loaded[kind] = load(f"local-dir:{folder}", device="cpu"), plain
        return loaded[kind]

    return get


@pytest.fixture(scope="session")
def valid() -> Callable[[Any], None]:
    """Raises unless a document is as the shipped schema says."""
    validate: Callable[[Any], None] = jsonschema.Draft202012Validator(json.loads(document.schema_text())).validate
    return validate
