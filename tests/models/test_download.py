"""Downloads: from a hub on this machine, through the hub's own client, into a cache that it can read."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import huggingface_hub.file_download
import pytest
from filelock import FileLock
from safetensors.torch import load_file, save_file

from backbone_zoo import assert_same, model_config, save
from clipmk.errors import ModelError
from clipmk.models import download as downloading
from clipmk.models.catalog import list_models
from clipmk.models.download import Transfer, fetch
from clipmk.models.loading import load, pull
from clipmk.models.local import cached_file, offline
from clipmk.worker import protocol
from clipmk.worker.jobs import Job, JobQueue
from conversation import Conversation, Recorder
from fake_hub import Hub, serving
from foreign_folders import convertible

CONTENT = bytes(range(256)) * 4000
NAME = "model.safetensors"
PATH = "/{repo_id}/resolve/{revision}/{filename}"


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """The server, forgetful; the hub's client asks it, never waits and keeps what it gets in the test's folder."""
    fresh = Hub(url=server.url, files={f"org/tiny/{NAME}": CONTENT})
    for name in Hub.__slots__:
        setattr(server, name, getattr(fresh, name))
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    point_to(server.url, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 60)
    monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda _: None)
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "config.toml"))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    huggingface_hub.utils.disable_progress_bars()
    return server


def point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every address of a file; the client reads it from one place or the other, as its version has it."""
    for module in (huggingface_hub.constants, huggingface_hub.file_download):
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", address + PATH, raising=False)


def partial(folder: Path) -> Path:
    blobs = folder / "hub" / "models--org--tiny" / "blobs"
    return blobs / f"{hashlib.sha256(CONTENT).hexdigest()}.clipmk.incomplete"


def test_a_file_arrives_with_progress_where_the_hub_client_finds_it(hub: Hub) -> None:
    seen: list[Transfer] = []
    path = fetch("org/tiny", ["absent.bin", NAME], progress=seen.append)
    assert path.read_bytes() == CONTENT
    assert cached_file("org/tiny", [NAME]) == path
    assert huggingface_hub.hf_hub_download("org/tiny", NAME, local_files_only=True) == str(path)
    assert [one.done for one in seen] == sorted({one.done for one in seen})
    assert (seen[0].done, seen[-1].done, seen[0].total) == (0, len(CONTENT), len(CONTENT))
    assert len(seen) > 5


def test_a_cached_file_is_not_downloaded_again(hub: Hub) -> None:
    first = fetch("org/tiny", [NAME])
    hub.asked.clear()
    assert fetch("org/tiny", [NAME]) == first
    assert hub.ranges_asked() == []


def test_a_stopped_download_is_kept_and_resumed(hub: Hub, tmp_path: Path) -> None:
    def stop(one: Transfer) -> None:
        if one.done >= 200_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("org/tiny", [NAME], progress=stop)
    kept = partial(tmp_path).read_bytes()
    assert kept == CONTENT[:200_000], "the pieces that had arrived whole"
    hub.asked.clear()
    seen: list[Transfer] = []
    assert fetch("org/tiny", [NAME], progress=seen.append).read_bytes() == CONTENT
    assert hub.ranges_asked() == [f"bytes={len(kept)}-"]
    assert seen[0].done == len(kept)
    assert not partial(tmp_path).exists()


def test_a_connection_that_breaks_for_good_says_how_to_resume(hub: Hub, tmp_path: Path) -> None:
    hub.break_after = 0
    partial(tmp_path).parent.mkdir(parents=True)
    partial(tmp_path).write_bytes(CONTENT[:5000])
    with pytest.raises(
        ModelError, match=r"'org/tiny' could not be downloaded: .*; what has arrived is kept, pull again"
    ):
        fetch("org/tiny", [NAME])
    assert partial(tmp_path).read_bytes() == CONTENT[:5000]


def test_a_connection_that_breaks_now_and_then_is_resumed(hub: Hub) -> None:
    hub.break_after = 300_000
    assert fetch("org/tiny", [NAME]).read_bytes() == CONTENT
    assert len(hub.ranges_asked()) > 2


def test_a_server_without_ranges_starts_from_the_beginning(hub: Hub, tmp_path: Path) -> None:
    hub.ranges = False
    partial(tmp_path).parent.mkdir(parents=True)
    partial(tmp_path).write_bytes(CONTENT[:5000])
    seen: list[Transfer] = []
    assert fetch("org/tiny", [NAME], progress=seen.append).read_bytes() == CONTENT
    assert [one.done for one in seen[:2]] == [5000, 0]


def test_a_damaged_file_is_refused_and_removed(hub: Hub, tmp_path: Path) -> None:
    hub.damage = True
    with pytest.raises(ModelError, match=r"arrived damaged and was removed: its sha256 is [0-9a-f]{64}, the hub says"):
        fetch("org/tiny", [NAME])
    assert cached_file("org/tiny", [NAME]) is None
    assert not partial(tmp_path).exists()
    hub.damage = False
    assert fetch("org/tiny", [NAME]).read_bytes() == CONTENT


def test_a_partial_file_of_other_bytes_is_detected(hub: Hub, tmp_path: Path) -> None:
    partial(tmp_path).parent.mkdir(parents=True)
    partial(tmp_path).write_bytes(b"x" * 5000)
    with pytest.raises(ModelError, match="arrived damaged"):
        fetch("org/tiny", [NAME])
    partial(tmp_path).write_bytes(CONTENT + b"more")
    assert fetch("org/tiny", [NAME]).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, "GatedRepo", r"'org/tiny' is gated: accept its terms at http://127.0.0.1:\d+/org/tiny, then log in"),
        (403, "GatedRepo", "'org/tiny' is gated"),
        (401, "RepoNotFound", "'org/tiny' does not exist on the hub, or is private: log in with `hf auth login`"),
        (404, "RepoNotFound", "'org/tiny' does not exist on the hub"),
        (403, "", r"the hub refuses 'org/tiny' \(HTTP 403\): log in"),
    ],
)
def test_refusals_of_the_hub_say_what_to_do(hub: Hub, status: int, code: str, message: str) -> None:
    hub.refusals = {"org/tiny": (status, code)}
    with pytest.raises(ModelError, match=message):
        fetch("org/tiny", [NAME])


def test_a_repository_without_the_file_names_what_was_tried(hub: Hub) -> None:
    with pytest.raises(ModelError, match=r"'org/tiny' on the hub has none of: a.bin, b.bin"):
        fetch("org/tiny", ["a.bin", "b.bin"])


def test_a_hub_that_does_not_answer_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        point_to(nobody, monkeypatch)
        with pytest.raises(ModelError, match=r"'org/tiny' could not be downloaded: .*onnect"):
            fetch("org/tiny", [NAME])


def test_a_machine_without_a_network_gets_another_way(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(ModelError, match=r"is it offline\? Pull .* copy the folder models--org--tiny .*/hub', or name"):
        fetch("org/tiny", [NAME])


def test_the_offline_switch_of_the_hub_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        fetch("org/tiny", [NAME])
    assert hub.asked == []


def test_a_full_disk_is_detected_before_the_download(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = downloading.shutil.disk_usage
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda path: usage(path)._replace(free=10**6))
    with pytest.raises(ModelError, match=r"needs 2\.\d MB more, but .* has 1\.0 MB free; point HF_HUB_CACHE"):
        fetch("org/tiny", [NAME])
    assert hub.ranges_asked() == []


def test_two_processes_do_not_write_one_file(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "LOCK_SECONDS", 0.05)
    home = tmp_path / "hub" / ".locks" / "models--org--tiny"
    home.mkdir(parents=True)
    with (
        FileLock(home / f"{hashlib.sha256(CONTENT).hexdigest()}.clipmk.lock"),
        pytest.raises(ModelError, match="another process is downloading 'model"),
    ):
        fetch("org/tiny", [NAME])


def test_a_pulled_repository_loads_and_is_listed_as_cached(hub: Hub, tmp_path: Path) -> None:
    save(tmp_path / "m", model_config("resnet"), clipmk={"bpe": "bpe.txt.gz"})
    hub.files = {f"org/small/{path.name}": path.read_bytes() for path in (tmp_path / "m").iterdir()}
    seen: list[Transfer] = []
    entry = pull("hf-hub:org/small", progress=seen.append)
    assert (entry.id, entry.source, entry.family) == ("hf-hub:org/small", "cached", "resnet")
    assert {one.name for one in seen} == {"open_clip_config.json", "open_clip_model.safetensors", "bpe.txt.gz"}
    assert [one.id for one in list_models(("cached",))] == ["hf-hub:org/small"]
    hub.asked.clear()
    assert load("hf-hub:org/small", device="cpu").info.family == "resnet"
    assert hub.asked == []


async def test_a_worker_downloads_beside_its_other_requests_and_stops_when_told(hub: Hub, tmp_path: Path) -> None:
    save(tmp_path / "m", model_config("resnet"), clipmk={"bpe": "bpe.txt.gz"})
    hub.files = {f"org/small/{path.name}": path.read_bytes() for path in (tmp_path / "m").iterdir()}
    talk = Conversation()
    queue = JobQueue(lambda: None, talk.service.answer)
    client, loop = Recorder(talk.keep), asyncio.get_running_loop()

    def job(request: Any) -> Job:
        return Job(request, talk.session, client)

    def stop(answer: Any) -> None:
        if isinstance(answer, protocol.Progress) and answer.done:
            asyncio.run_coroutine_threadsafe(queue.cancel(client, 1), loop).result()

    queue.start()
    try:
        for number, hook, kind in ((1, stop, protocol.Failed), (2, lambda answer: None, protocol.Pulled)):
            talk.hook = hook
            await queue.add(job(protocol.Pull(id=number, model="hf-hub:org/small")))
            await queue.add(job(protocol.ListModels(id=10 * number)))
            while not any(isinstance(one, kind) and one.id == number for one in talk.sent):
                await asyncio.sleep(0.01)
        while queue.jobs:
            await asyncio.sleep(0.01)
    finally:
        assert await queue.close(60)
    stages = [one for one in talk.sent if isinstance(one, protocol.Progress) and one.stage == "download"]
    assert {one.id for one in stages} == {1, 2}
    assert all(0 <= one.done <= one.total for one in stages)
    assert [one.code for one in talk.sent if isinstance(one, protocol.Failed)] == [protocol.CANCELLED]
    (pulled,) = [one for one in talk.sent if isinstance(one, protocol.Pulled)]
    assert (pulled.model.id, pulled.model.source) == ("hf-hub:org/small", "cached")
    assert {one.id for one in talk.sent if isinstance(one, protocol.Listed)} == {10, 20}


def test_a_worker_says_why_a_download_failed(hub: Hub) -> None:
    answer = Conversation().ask(protocol.Pull(model="hf-hub:org/missing"))
    assert isinstance(answer, protocol.Failed)
    assert "'org/missing' does not exist on the hub" in answer.message


@pytest.mark.parametrize("sharded", [False, True])
def test_a_repository_made_for_transformers_is_pulled_whole(hub: Hub, tmp_path: Path, sharded: bool) -> None:
    plain = convertible(tmp_path / "m")
    (tmp_path / "m" / "preprocessor_config.json").write_text("{}", encoding="utf-8")
    names = {"config.json", "preprocessor_config.json", "model.safetensors"}
    if sharded:
        tensors = load_file(tmp_path / "m" / "model.safetensors")
        (tmp_path / "m" / "model.safetensors").unlink()
        parts = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(tensors)}
        for part in set(parts.values()):
            save_file({name: tensors[name] for name in tensors if parts[name] == part}, tmp_path / "m" / part)
        (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
        names = names - {"model.safetensors"} | {"model.safetensors.index.json", *parts.values()}
    hub.files = {f"org/small/{path.name}": path.read_bytes() for path in (tmp_path / "m").iterdir()}
    seen: list[Transfer] = []
    entry = pull("hf-hub:org/small", progress=seen.append)
    assert {one.name for one in seen} == names
    assert (entry.source, entry.repository) == ("cached", "org/small")
    assert [one.id for one in list_models(("cached",))] == ["hf-hub:org/small"]
    hub.asked.clear()
    assert_same(load("hf-hub:org/small", device="cpu"), plain)
    assert hub.asked == []
    if sharded:  # a pull that was stopped
        next((tmp_path / "hub").rglob("snapshots/*/*-of-00002.safetensors")).unlink()
        with pytest.raises(ModelError, match="is not on this machine"):
            load("hf-hub:org/small", device="cpu")
        assert_same(load("hf-hub:org/small", device="cpu", download=True), plain)


def test_a_repository_without_weights_of_open_clip_is_refused(hub: Hub, tmp_path: Path) -> None:
    save(tmp_path / "m", model_config("resnet"))
    (tmp_path / "m" / "open_clip_model.safetensors").rename(tmp_path / "m" / "model.safetensors")
    hub.files = {f"org/small/{path.name}": path.read_bytes() for path in (tmp_path / "m").iterdir()}
    with pytest.raises(
        ModelError, match=r"'org/small' on the hub has none of: open_clip_model.safetensors, open_clip_py"
    ):
        pull("hf-hub:org/small")
    hub.files = {"org/small/config.json": b'{"model_type": "bert"}', "org/small/model.safetensors": b"x"}
    with pytest.raises(ModelError, match="model_type 'bert'"):
        pull("hf-hub:org/small")


def test_a_thread_that_is_offline_leaves_the_downloads_of_others_alone(hub: Hub) -> None:
    with offline():
        with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
            fetch("org/tiny", [NAME])
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(fetch, "org/tiny", [NAME]).result().read_bytes() == CONTENT
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize("before", [False, True])
def test_threads_that_are_offline_leave_in_any_order(before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", before)
    entered, first_left = threading.Barrier(2), threading.Event()

    def first() -> None:
        with offline():
            entered.wait(60)
        first_left.set()

    def second() -> bool:
        with offline():
            entered.wait(60)
            assert first_left.wait(60)
            return bool(constants.HF_HUB_OFFLINE)

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(first), pool.submit(second)]
        assert [future.result() for future in futures] == [None, True]
    assert constants.HF_HUB_OFFLINE is before
