"""Class tables of food and household things; see `tables`."""

from __future__ import annotations

from typing import Final

from clipmk.world.records import Part, row

FOOD: Final[dict[str, tuple[Part, ...]]] = {
    "cake": (
        row("plate", "bottom", (0.0, 0.34, 0.84, 0.14), looks={"plain white": 5, "plain blue": 3, "plain gray": 2}),
        row(
            "candles",
            "top",
            (0.0, -0.28, 0.32, 0.24),
            looks={"straight red": 4, "straight blue": 4, "tapered yellow": 2},
            chance=0.8,
        ),
        row("layers", "body", (0.0, 0.07, 0.66, 0.46), looks={"plain brown": 4, "striped white": 3, "striped pink": 3}),
        row(
            "frosting",
            "face",
            (0.0, 0.12, 0.66, 0.17),
            looks={"dripping white": 4, "dripping pink": 3, "dripping brown": 3},
        ),
        row("fruits", "top", (0.0, -0.12, 0.40, 0.22), looks={"round red": 5, "round purple": 3}, chance=0.6),
    ),
    "ice cream": (
        row("cone", "bottom", (0.0, 0.20, 0.40, 0.52), looks={"checkered brown": 5, "checkered orange": 4}),
        row("scoops", "body", (0.0, -0.15, 0.56, 0.38), looks={"plain pink": 3, "plain white": 3, "spotted brown": 3}),
        row(
            "frosting",
            "top",
            (0.0, -0.26, 0.36, 0.18),
            looks={"jagged brown": 3, "dripping pink": 3, "jagged blue": 2},
            chance=0.6,
        ),
        row("leaves", "sides", (0.24, -0.32, 0.22, 0.16), looks={"round green": 3, "pointed red": 3}, chance=0.4),
    ),
}

THINGS: Final[dict[str, tuple[Part, ...]]] = {
    "teapot": (
        row("handle", "back", (0.32, 0.05, 0.28, 0.36), looks={"round black": 4, "round blue": 3, "square brown": 3}),
        row(
            "spout", "front", (-0.34, 0.02, 0.28, 0.32), looks={"curved blue": 3, "curved white": 3, "curved green": 3}
        ),
        row("lid", "top", (0.0, -0.24, 0.34, 0.20), looks={"round blue": 3, "round red": 3, "round white": 3}),
        row("body", "body", (0.0, 0.08, 0.56, 0.46), looks={"plain white": 3, "spotted blue": 3, "spotted red": 3}),
        row("smoke", "sides", (-0.32, -0.28, 0.22, 0.20), looks={"wavy white": 3, "wavy gray": 3}, chance=0.5),
        row("plate", "bottom", (0.0, 0.34, 0.60, 0.12), looks={"striped white": 3, "plain yellow": 3}, chance=0.5),
    ),
    "robot": (
        row(
            "antennae",
            "top",
            (0.10, -0.38, 0.13, 0.18),
            mirrored=True,
            looks={"straight red": 4, "straight yellow": 3},
            chance=0.8,
        ),
        row(
            "legs",
            "bottom",
            (-0.13, 0.37, 0.15, 0.20),
            (0.13, 0.37, 0.15, 0.20),
            looks={"thick black": 4, "thick gray": 4},
        ),
        row("arms", "sides", (0.34, 0.08, 0.24, 0.24), mirrored=True, looks={"bent gray": 4, "thick black": 4}),
        row(
            "body",
            "body",
            (0.0, 0.12, 0.46, 0.36),
            looks={"plain gray": 4, "plain blue": 3, "plain orange": 3},
            shape="box",
        ),
        row("head", "top", (0.0, -0.18, 0.38, 0.27), looks={"square gray": 4, "square orange": 3, "square yellow": 3}),
        row(
            "eyes",
            "face",
            (-0.09, -0.19, 0.13, 0.12),
            mirrored=True,
            looks={"square green": 4, "square red": 4, "square yellow": 2},
        ),
        row("panel", "bottom", (0.0, 0.13, 0.26, 0.19), looks={"square blue": 4, "square green": 3, "round yellow": 2}),
    ),
    "snowman": (
        row("arms", "sides", (0.32, 0.06, 0.26, 0.20), mirrored=True, looks={"thin brown": 6, "thin black": 3}),
        row("body", "body", (0.0, 0.22, 0.54, 0.48), looks={"plain white": 8, "spotted white": 2}),
        row("head", "top", (0.0, -0.14, 0.36, 0.32), looks={"round white": 7, "round gray": 3}),
        row("hat", "top", (0.0, -0.34, 0.38, 0.25), looks={"tall black": 5, "pointed red": 3, "tall blue": 2}),
        row("nose", "face", (-0.06, -0.13, 0.20, 0.11), looks={"pointed orange": 8, "pointed red": 2}),
        row(
            "shawl",
            "sides",
            (0.0, 0.07, 0.40, 0.18),
            looks={"striped red": 4, "striped green": 3, "plain blue": 3},
            chance=0.8,
        ),
        row("buttons", "bottom", (0.0, 0.29, 0.12, 0.34), looks={"round black": 5, "round red": 3}),
    ),
}
