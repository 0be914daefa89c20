"""`clipmk explain` with a server beside it, which a user must not notice, and `clipmk serve` itself."""

from __future__ import annotations

import inspect
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clipmk.worker import client, unix_socket
from clipmk.worker.protocol import VERSION
from clipmk_tui.cli.commands.explain import results
from clipmk_tui.cli.commands.serve import idle_seconds, serve
from command_line import FAST, Runner
from samples import explanation, picture
from serving import PATIENCE, FakeService, listens, running, talking, wait_for

pytestmark = pytest.mark.skipif(not unix_socket.supported(), reason="needs SO_PEERCRED")


@pytest.fixture
def service(clean: None) -> Iterator[FakeService]:
    """A server where `clipmk explain` looks for one; it needs no model."""
    with running(Path(os.environ["CLIPMK_SOCKET"])) as fake:
        yield fake


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Nothing is done in this process but noted: the names of the images that would be."""
    asked: list[list[str]] = []

    def noted(choices: Any, sources: Any, stages: Any) -> list[Any]:
        asked.append([source.name for source in sources])
        return []

    monkeypatch.setattr(results, "results", noted)
    return asked


def put(name: str) -> None:
    """The picture that the fake worker's explanations are about."""
    picture().save(name)


# Explaining.


def test_the_server_is_asked_and_its_answers_are_printed_as_ours(service: FakeService, clipmk: Runner) -> None:
    ran = clipmk("explain", "a.png", "b.png", "--jsonl", "-m", "one", "-m", "two")
    assert (ran.status, ran.err) == (0, "")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [line["image"]["path"] for line in lines] == ["a.png", "b.png"] * 2
    assert lines[0] == {**json.loads(explanation(path="a.png").to_json()), "warnings": []}
    assert service.seen == ["a.png", "a.png"]  # one request for each model


def test_words_and_classes_of_ones_own_go_to_the_server(service: FakeService, clipmk: Runner) -> None:
    argv = ("explain", "a.png", "b.png", "--ask", "a wet nose", "--ask", "snow", "--add-class", "wolf", "--jsonl")
    assert clipmk(*argv, "-m", "one").status == 0
    assert (service.asks, service.added_classes) == ([("a wet nose", "snow")], [("wolf",)])


def test_many_images_are_asked_for_a_few_at_a_time_as_parts_of_a_run(service: FakeService, clipmk: Runner) -> None:
    names = [f"{number}.png" for number in range(results.TOGETHER + 1)]
    ran = clipmk("explain", *names, "--jsonl", "-m", "any")
    assert [json.loads(line)["image"]["path"] for line in ran.out.splitlines()] == names
    assert service.seen == [names[0], names[-1]]
    assert service.streamed == [True, True]
    clipmk("explain", "a.png", "--jsonl", "-m", "any")
    assert service.streamed == [True, True, False]


def test_the_note_on_the_default_model_is_still_printed(service: FakeService, clipmk: Runner) -> None:
    assert "is a demonstration model" in clipmk("explain", "a.png", "--jsonl").err
    assert clipmk("explain", "a.png", "--jsonl", "-q").err == ""


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_no_serve_never_asks_the_server(
    service: FakeService, clipmk: Runner, nothing_here: list[list[str]], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "variable":
        monkeypatch.setenv("CLIPMK_SERVE", "0")
    clipmk("explain", "a.png", "--json", *(["--no-serve"] if how == "flag" else []))
    assert (service.seen, nothing_here) == ([], [["a.png"]])


def test_a_bad_image_fails_in_its_place_and_the_exit_status_is_3(service: FakeService, clipmk: Runner) -> None:
    ran = clipmk("explain", "a.png", "gone.png", "b.png", "--jsonl", "-m", "any")
    assert ran.status == 3
    assert ran.err == "clipmk: error: image 'gone.png' does not exist\n"
    errors = [json.loads(line).get("error") for line in ran.out.splitlines()]
    assert errors == [None, {"code": "image", "message": "image 'gone.png' does not exist"}, None]


def test_an_image_that_cannot_be_embedded_fails_in_its_place_and_the_exit_status_is_4(
    service: FakeService, clipmk: Runner, nothing_here: list[list[str]]
) -> None:
    ran = clipmk("explain", "a.png", "infinite.png", "gone.png", "b.png", "--jsonl", "-m", "any")
    assert ran.status == 4
    errors = [json.loads(line).get("error", {}).get("code") for line in ran.out.splitlines()]
    assert errors == [None, "model", "image", None]
    assert (service.seen, nothing_here) == (["a.png"], [])


def test_a_folder_without_images_fails_without_asking(service: FakeService, clipmk: Runner, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = clipmk("explain", "empty", "a.png", "--jsonl", "-m", "any")
    assert ran.status == 3
    assert "folder 'empty' holds no image" in ran.err
    assert service.seen == ["a.png"]


def test_what_the_server_declines_is_done_here_from_that_image_on(
    service: FakeService, clipmk: Runner, nothing_here: list[list[str]]
) -> None:
    ran = clipmk("explain", "a.png", "b.png", "--json", "-m", "declined")
    assert nothing_here == [["a.png", "b.png"]]
    assert ran.err == ""  # whatever is wrong, we say it ourselves


def test_an_error_of_the_server_is_noted(service: FakeService, clipmk: Runner, nothing_here: list[list[str]]) -> None:
    ran = clipmk("explain", "a.png", "--json", "-m", "broken", "-m", "fine")
    assert ran.err.endswith("clipmk: note: the server could not do it: ZeroDivisionError: on purpose\n")
    assert nothing_here == [["a.png"]]
    assert service.seen == ["a.png", "a.png"]


def test_a_server_of_another_version_is_noted_and_not_asked(
    clipmk: Runner, nothing_here: list[list[str]], monkeypatch: pytest.MonkeyPatch, service: FakeService
) -> None:
    monkeypatch.setattr("clipmk.worker.server.__version__", "0.0.9")
    monkeypatch.setattr("clipmk.worker.client.__version__", "99.0")
    ran = clipmk("explain", "a.png", "--json", "-m", "any")
    assert "the server at '" in ran.err
    assert f"is not used: it is clipmk 0.0.9, protocol {VERSION}; this is 99.0, {VERSION}\n" in ran.err
    assert (service.seen, nothing_here) == ([], [["a.png"]])


def test_a_server_with_another_identity_is_noted_and_not_asked(
    service: FakeService, clipmk: Runner, nothing_here: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    ran = clipmk("explain", "a.png", "--json", "-m", "any")
    assert "is not used: it was started with other variables" in ran.err
    assert (service.seen, nothing_here) == ([], [["a.png"]])


def test_a_server_that_dies_is_noted_and_the_rest_is_done_here(
    clipmk: Runner, nothing_here: list[list[str]], clean: None
) -> None:
    path = os.environ["CLIPMK_SOCKET"]
    script = Path(__file__).parents[1] / "serving.py"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, str(script), path], env=env, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: listens(Path(path)))
        ran = clipmk("explain", "a.png", "fatal.png", "b.png", "--json", "-m", "fine", "-m", "other")
        assert process.wait() == -signal.SIGKILL
    assert ran.err == "clipmk: note: the server is no longer used: it was lost: it closed the connection\n"
    assert nothing_here == [["fatal.png", "b.png"], ["a.png", "fatal.png", "b.png"]]
    assert [one["image"]["path"] for one in json.loads(ran.out)["results"]] == ["a.png"]


def test_ctrl_c_cancels_the_request(
    service: FakeService, clipmk: Runner, monkeypatch: pytest.MonkeyPatch, nothing_here: list[list[str]]
) -> None:
    def interrupt() -> None:
        wait_for(lambda: service.seen)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    ran = clipmk("explain", "a.png", "--json", "-m", "waiting")
    thread.join()
    assert ran.status == 130
    assert json.loads(ran.out)["error"]["code"] == "interrupted"
    wait_for(lambda: service.seen == ["!a.png"])
    assert nothing_here == []


def test_standard_input_is_sent_along_and_drawn_from_here(
    service: FakeService, clipmk: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = io.BytesIO()
    picture().save(data, format="PNG")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data.getvalue())))
    ran = clipmk("explain", "-", "--jsonl", "-m", "any", "--overlay", "o.png", "--html", "o.html")
    assert (ran.status, ran.err) == (0, "")
    assert service.attached == data.getvalue()
    whole = explanation(path="-", with_picture=True)
    from clipmk.output.overlay import readable_scale  # noqa: PLC0415

    drawn = whole.overlay(scale=readable_scale(whole))
    assert Image.open(tmp_path / "o.png").tobytes() == drawn.tobytes()
    assert "data:image/png;base64," in (tmp_path / "o.html").read_text(encoding="utf-8")


def test_empty_standard_input_fails_without_asking(
    service: FakeService, clipmk: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    ran = clipmk("explain", "-", "--jsonl", "-m", "any")
    assert (ran.status, service.seen) == (3, [])
    assert "standard input is empty" in ran.err


def test_an_image_too_large_to_be_sent_is_explained_here(
    service: FakeService, clipmk: Runner, nothing_here: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "ATTACHED_BYTES", 3)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"four")))
    clipmk("explain", "-", "--jsonl", "-m", "any")
    assert (service.seen, nothing_here) == ([], [["-"]])


def test_a_joint_fit_is_asked_for_in_groups(service: FakeService, clipmk: Runner, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[settings]\nfit = "batch"\n', encoding="utf-8")
    names = [f"{number}.png" for number in range(60)]
    ran = clipmk("explain", *names, "--jsonl", "-m", "any")
    assert [json.loads(line)["image"]["path"] for line in ran.out.splitlines()] == names
    assert service.seen == ["0.png", "50.png"]


# The command itself.


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("1.5h", 5400), (" 2 M ", 120)])
def test_durations_are_read(text: str, seconds: float) -> None:
    assert idle_seconds(text) == seconds


def test_a_server_waits_for_15_minutes_by_default() -> None:
    assert idle_seconds(inspect.signature(serve).parameters["idle"].default) == 900


@pytest.mark.parametrize("text", ["0", "soon", "-5m", "5d", "1e3", "nan"])
def test_a_malformed_duration_is_a_usage_error(clipmk: Runner, text: str) -> None:
    ran = clipmk("serve", "--idle", text)
    assert ran.status == 2
    assert f"--idle {text!r} is not a positive duration" in ran.err


def test_status_prints_the_state_of_the_server(service: FakeService, clipmk: Runner) -> None:
    clipmk("explain", "a.png", "--json", "-m", "any")
    wait_for(lambda: _counted() == 1)  # a request is counted after its answer has been sent
    ran = clipmk("serve", "--status", "--json")
    found = json.loads(ran.out)
    assert ran.status == 0
    assert (found["pid"], found["requests"], found["models"]) == (os.getpid(), 1, ["waiting"])
    assert (found["path"], found["differs_in"]) == (os.environ["CLIPMK_SOCKET"], [])
    assert f"pid         {os.getpid()}" in clipmk("serve", "--status").out


def _counted() -> int:
    with talking(Path(os.environ["CLIPMK_SOCKET"])) as connection:
        return client.read_greeting(connection.first_line).requests


def test_without_a_server_status_is_an_error_and_stop_is_not(clipmk: Runner) -> None:
    ran = clipmk("serve", "--status", "--json")
    assert ran.status == 1
    assert "no server listens at" in json.loads(ran.out)["error"]["message"]
    ran = clipmk("serve", "--stop")
    assert ran.status == 0
    assert "no server listens at" in ran.err


def test_stop_and_status_exclude_each_other(clipmk: Runner) -> None:
    assert clipmk("serve", "--stop", "--status").status == 2


@pytest.mark.parametrize("options", [(), ("--stop",), ("--status",)])
def test_a_system_without_private_sockets_says_so(
    clipmk: Runner, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.delattr(socket, "SO_PEERCRED")
    ran = clipmk("serve", *options)
    assert ran.status == 1
    assert "clipmk serve needs Unix sockets" in ran.err
    assert "Traceback" not in ran.err


# With a model.

LIGHT = ["torch", "open_clip", "numpy", "PIL", "cv2", "scipy", "sklearn", "timm", "textual"]


@pytest.fixture
def real(clean: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """`clipmk serve` in a process of its own, one thread like us."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    command = [sys.executable, "-m", "clipmk_tui", "serve", "--idle", "10m"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: listens(Path(os.environ["CLIPMK_SOCKET"])))
        yield process
        if process.poll() is None:
            process.kill()


def timeless(text: str) -> str:
    """A document without its times."""
    content = json.loads(text)
    for result in content["results"]:
        result.pop("elapsed_ms", None)
    return json.dumps(content)


@pytest.mark.e2e
@pytest.mark.usefixtures("loaded_once")
def test_the_real_server_answers_byte_for_byte_as_this_process(
    real: subprocess.Popen[str], clipmk: Runner, scene_files: list[Path], tmp_path: Path
) -> None:
    first, second = (str(path) for path in scene_files[:2])
    small = ("-m", "embedded/vit-xs8-48")
    cases: dict[tuple[str, ...], Callable[[str], str]] = {
        (first, second, "--json", *small): timeless,
        (first, "--json", "--target", "dog", "--top", "2", "--preset", "paper", *small): timeless,
        (first, "gone.png", "--json", *FAST, *small): timeless,
        (first, "-m", "embedded/vit-s9", "--json"): timeless,
        (first, "--json", "--target", "dgo", *small): str,
        (first, "--html", "page.html", "--overlay", "parts.png", *small): str,
    }
    for arguments, comparable in cases.items():
        found = []
        for option in ("--serve", "--no-serve"):
            ran = clipmk("explain", *arguments, option)
            files = [path.read_bytes() for path in sorted(tmp_path.glob("pa*"))]
            found.append((ran.status, comparable(ran.out), ran.err, files))
        assert found[0] == found[1], arguments
    code = f"""
import sys
from clipmk.worker import client
from clipmk_tui.__main__ import main
client.GREETING_SECONDS = {PATIENCE}
assert main(["explain", {first!r}, "--jsonl", "-m", {small[1]!r}]) == 0
assert not [name for name in {LIGHT!r} if name in sys.modules]
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert clipmk("serve", "--stop").status == 0
    out, err = real.communicate(timeout=PATIENCE)
    assert (real.returncode, out) == (0, "")
    assert err.splitlines()[-1] == "clipmk: info: ended"
    assert [line for line in err.splitlines() if "Traceback" in line or "warning" in line] == []
    assert not Path(os.environ["CLIPMK_SOCKET"]).exists()
