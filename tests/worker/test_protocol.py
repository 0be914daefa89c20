"""The messages between app and worker survive the wire; what is no message is refused."""

from __future__ import annotations

import dataclasses
import json

import pytest

import samples
from clipmk.errors import ProtocolError
from clipmk.records import ModelEntry
from clipmk.settings import preset
from clipmk.worker import protocol
from clipmk.worker.protocol import decode, encode
from clipmk.worker.session import Session

ENTRY = ModelEntry(
    id="embedded/x", source="embedded", architecture="x", pretrained=None, family="vit", input_size=64, embed_dim=8
)
MESSAGES = (
    protocol.Hello(version=2, session=Session(vocabulary="world", settings=preset("paper", seed=3))),
    protocol.Load(id=1, model="ViT-B-32:random"),
    protocol.Explain(id=2, model="a", image='b\udcff"\n\x1b.png', target=None, asks=("a wet nose",)),
    protocol.WhatIf(id=3, model="a", image="b", left_out=("round eyes", "∩")),
    protocol.Compare(id=4, models=("a", "b"), image="c", target="fox"),
    protocol.ListModels(id=6),
    protocol.Cancel(id=7, request=6),
    protocol.ExplainImages(id=8, model="a", images=("b\udcff\n.png", "-"), attached=12),
    protocol.Greeting(protocol=2, clipmk="0.1", pid=12, identity={"code": "x"}, models=("a", "b")),
    protocol.ImageExplained(id=8, explanation=None, code="image", message="no"),
    protocol.Done(id=8, count=2),
    protocol.Progress(id=1, stage="texts", done=3, total=0),
    protocol.Explained(id=2, explanation=samples.explanation(independent=0.25)),
    protocol.Reranked(id=3, left_out=("x",), predictions=samples.explanation().predictions),
    protocol.ColumnReady(id=4, model="a", explanation=None, code="model", message="no"),
    protocol.Listed(id=6, models=(ENTRY, dataclasses.replace(ENTRY, needs_transformers=True, path="/x"))),
    protocol.Failed(id=0, code="memory", message="too small"),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_is_the_same_after_the_wire(message: protocol.Message) -> None:
    line = encode(message)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert decode(line) == message


def test_the_picture_stays_behind() -> None:
    sent = protocol.Explained(id=1, explanation=samples.explanation(with_picture=True))
    received = decode(encode(sent))
    assert isinstance(received, protocol.Explained)
    assert received.explanation.picture is None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"Traceback (most recent call last):\n",
        b"[1]\n",
        b'"explain"\n',
        b'{"id": 1}\n',
        b'{"type": "dance", "id": 1}\n',
        b'{"type": "load", "id": 1}\n',
        b'{"type": "load", "id": 1, "model": 3}\n',
        b'{"type": "load", "id": true, "model": "a"}\n',
        b'{"type": "load", "id": 1, "model": "a", "extra": 1}\n',
        b'{"type": ["load"], "id": 1, "model": "a"}\n',
        b"\xff\xfe\n",
        b"[" * 200_000 + b"\n",
        b'{"type": "load", "model": "a", "id": %b}\n' % (b"1" * 400),
        b'{"type": "load", "model": "a", "id": %b}\n' % (b"1" * 9_000),
        b'{"type": "predicted", "id": 1, "image": "a", "class": "b", "probability": 1e999}\n',
        b'{"type": "predicted", "id": 1, "image": "a", "class": "b", "probability": NaN}\n',
    ],
)
def test_malformed_messages_are_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="is not a message of protocol"):
        decode(line)


def test_every_message_has_a_type_name_of_its_own() -> None:
    names = [json.loads(encode(message))["type"] for message in MESSAGES]
    assert len(set(names)) == len(MESSAGES)
    assert {"list-models", "column-ready", "what-if"} <= set(names)
