"""Class tables of animals and plants; see `tables`."""

from __future__ import annotations

from typing import Final

from clipmk.world.records import Part, row

ANIMALS: Final[dict[str, tuple[Part, ...]]] = {
    "fish": (
        row("tail", "back", (0.32, 0.0, 0.30, 0.44), looks={"forked orange": 4, "forked blue": 3, "forked red": 2}),
        row("fin", "top", (0.0, -0.26, 0.32, 0.22), looks={"pointed orange": 4, "pointed blue": 3, "round red": 2}),
        row(
            "body", "body", (-0.08, 0.02, 0.60, 0.42), looks={"striped orange": 4, "plain blue": 3, "spotted yellow": 3}
        ),
        row("eyes", "face", (-0.25, -0.04, 0.13, 0.13), looks={"round black": 6, "round white": 3}),
    ),
    "bird": (
        row(
            "legs",
            "bottom",
            (-0.02, 0.32, 0.07, 0.24),
            (0.11, 0.32, 0.07, 0.24),
            looks={"thin orange": 6, "thin black": 3},
        ),
        row(
            "tail",
            "back",
            (0.34, 0.06, 0.28, 0.20),
            looks={"forked black": 4, "fluffy brown": 2, "forked blue": 3},
            chance=0.9,
        ),
        row("body", "body", (0.05, 0.06, 0.44, 0.36), looks={"plain blue": 4, "plain red": 3, "spotted brown": 3}),
        row("head", "top", (-0.20, -0.16, 0.28, 0.27), looks={"round yellow": 3, "round black": 3, "round white": 2}),
        row(
            "beak",
            "front",
            (-0.38, -0.14, 0.18, 0.12),
            looks={"pointed yellow": 5, "pointed orange": 4, "curved black": 2},
        ),
        row(
            "wings", "sides", (0.14, -0.02, 0.36, 0.30), looks={"striped white": 4, "plain blue": 3, "plain yellow": 3}
        ),
    ),
    "rabbit": (
        row(
            "ears",
            "top",
            (-0.12, -0.34, 0.15, 0.19, -10),
            mirrored=True,
            looks={"long pink": 5, "long white": 3, "long gray": 2},
        ),
        row("tail", "back", (0.27, 0.28, 0.22, 0.20), looks={"fluffy white": 6, "fluffy brown": 2}, chance=0.8),
        row("body", "body", (0.0, 0.25, 0.46, 0.42), looks={"plain brown": 4, "plain gray": 3, "spotted white": 2}),
        row("head", "top", (0.0, -0.06, 0.40, 0.36), looks={"round white": 4, "round gray": 3, "round brown": 3}),
        row("eyes", "face", (-0.10, -0.10, 0.12, 0.13), mirrored=True, looks={"round black": 5, "round red": 3}),
        row("nose", "face", (0.0, 0.05, 0.14, 0.12), looks={"round pink": 6, "round black": 2}),
    ),
    "cat": (
        row(
            "ears",
            "top",
            (-0.17, -0.33, 0.18, 0.24, -10),
            mirrored=True,
            looks={"pointed black": 4, "pointed gray": 3, "pointed orange": 3},
        ),
        row("tail", "back", (0.32, 0.20, 0.26, 0.40), looks={"curled black": 4, "curled orange": 4, "curled white": 2}),
        row("body", "body", (0.0, 0.26, 0.42, 0.40), looks={"striped orange": 4, "plain gray": 3, "plain black": 3}),
        row("head", "top", (0.0, -0.08, 0.46, 0.38), looks={"round orange": 4, "round white": 3, "round black": 2}),
        row("eyes", "face", (-0.11, -0.11, 0.13, 0.12), mirrored=True, looks={"round green": 6, "round yellow": 4}),
        row("nose", "face", (0.0, 0.03, 0.14, 0.11), looks={"round pink": 5, "round black": 3}, chance=0.7),
    ),
    "fox": (
        row("tail", "back", (0.36, 0.06, 0.26, 0.36), looks={"fluffy orange": 6, "fluffy white": 3}),
        row(
            "legs",
            "bottom",
            (-0.10, 0.33, 0.08, 0.24),
            (0.19, 0.33, 0.08, 0.24),
            looks={"thin black": 6, "thin brown": 3},
        ),
        row("body", "body", (0.06, 0.13, 0.46, 0.28), looks={"plain orange": 6, "plain brown": 3}),
        row(
            "ears",
            "top",
            (-0.34, -0.30, 0.15, 0.22, -8),
            (-0.12, -0.30, 0.15, 0.22, 8),
            looks={"pointed black": 5, "pointed brown": 4},
        ),
        row("head", "top", (-0.23, -0.08, 0.36, 0.30), looks={"round orange": 4, "round white": 4}),
        row("nose", "front", (-0.42, -0.02, 0.15, 0.13), looks={"pointed black": 7, "pointed pink": 2}),
    ),
    "elephant": (
        row(
            "legs",
            "bottom",
            (-0.06, 0.30, 0.15, 0.28),
            (0.24, 0.30, 0.15, 0.28),
            looks={"thick gray": 6, "thick brown": 3},
        ),
        row("body", "body", (0.11, 0.03, 0.58, 0.46), looks={"plain gray": 6, "plain pink": 2, "spotted gray": 2}),
        row("trunk", "front", (-0.38, 0.16, 0.26, 0.44), looks={"curved gray": 5, "curved pink": 3}),
        row("head", "top", (-0.23, -0.06, 0.36, 0.38), looks={"round gray": 5, "round white": 2, "round brown": 2}),
        row("tusks", "front", (-0.30, 0.19, 0.15, 0.17), looks={"curved white": 6, "curved yellow": 3}, chance=0.7),
        row("ears", "top", (-0.06, -0.08, 0.21, 0.40), looks={"round pink": 4, "round gray": 4, "round brown": 2}),
    ),
    "butterfly": (
        row(
            "antennae", "top", (0.10, -0.36, 0.16, 0.22), mirrored=True, looks={"curled black": 5, "straight brown": 3}
        ),
        row(
            "wings",
            "sides",
            (0.25, -0.02, 0.40, 0.62),
            mirrored=True,
            looks={"spotted orange": 4, "spotted blue": 3, "striped yellow": 3},
            shape="butterfly-wing",
        ),
        row("body", "body", (0.0, 0.03, 0.15, 0.56), looks={"plain black": 5, "plain brown": 4, "striped yellow": 2}),
        row(
            "head",
            "top",
            (0.0, -0.24, 0.18, 0.17),
            looks={"round black": 3, "round brown": 3, "round yellow": 2},
            chance=0.85,
        ),
    ),
    "turtle": (
        row(
            "legs",
            "bottom",
            (-0.18, 0.24, 0.16, 0.20),
            (0.19, 0.24, 0.16, 0.20),
            looks={"thick brown": 4, "thick yellow": 4},
        ),
        row("tail", "back", (0.39, 0.12, 0.18, 0.17), looks={"curled brown": 4, "fluffy brown": 3}, chance=0.5),
        row("head", "front", (-0.38, 0.0, 0.24, 0.25), looks={"round yellow": 4, "round brown": 4}),
        row(
            "shell",
            "body",
            (0.02, -0.02, 0.64, 0.40),
            looks={"checkered green": 5, "spotted brown": 3, "spotted green": 2},
        ),
        row("eyes", "face", (-0.40, -0.02, 0.12, 0.12), looks={"round black": 5, "round white": 3}, chance=0.85),
    ),
    "snail": (
        row(
            "antennae",
            "top",
            (-0.33, -0.17, 0.15, 0.24),
            (-0.22, -0.15, 0.15, 0.24),
            looks={"straight brown": 4, "straight yellow": 4},
        ),
        row(
            "body",
            "bottom",
            (-0.02, 0.18, 0.82, 0.42),
            looks={"plain yellow": 4, "plain pink": 4, "spotted gray": 2},
            shape="slug",
        ),
        row(
            "shell",
            "body",
            (0.12, 0.02, 0.48, 0.46),
            looks={"striped brown": 5, "striped orange": 4, "striped purple": 2},
            shape="ellipse",
        ),
        row("eyes", "face", (-0.35, 0.07, 0.13, 0.13), looks={"round white": 5, "round black": 4}, chance=0.85),
    ),
}

PLANTS: Final[dict[str, tuple[Part, ...]]] = {
    "flower": (
        row("stem", "bottom", (0.0, 0.26, 0.09, 0.42), looks={"thin green": 6, "thin brown": 2}),
        row(
            "leaves",
            "sides",
            (0.17, 0.24, 0.27, 0.20),
            mirrored=True,
            looks={"pointed green": 6, "round yellow": 3},
            chance=0.85,
        ),
        row(
            "petals",
            "body",
            (0.0, -0.14, 0.58, 0.58),
            looks={"round pink": 3, "round red": 3, "pointed purple": 3, "pointed orange": 3},
        ),
        row("center", "face", (0.0, -0.14, 0.22, 0.22), looks={"plain yellow": 5, "spotted brown": 4}),
    ),
    "tree": (
        row("trunk", "bottom", (0.0, 0.26, 0.18, 0.40), looks={"thick brown": 7, "thick gray": 3}),
        row(
            "foliage", "body", (0.0, -0.14, 0.64, 0.58), looks={"round green": 4, "pointed green": 3, "round orange": 3}
        ),
        row("fruits", "face", (0.0, -0.10, 0.42, 0.38), looks={"round red": 5, "round yellow": 3}, chance=0.6),
        row(
            "leaves",
            "sides",
            (0.20, 0.22, 0.20, 0.15),
            mirrored=True,
            looks={"round green": 4, "round brown": 4},
            chance=0.4,
        ),
    ),
    "cactus": (
        row("arms", "sides", (0.23, 0.0, 0.28, 0.32), mirrored=True, looks={"bent green": 7, "bent brown": 2}),
        row("body", "body", (0.0, 0.02, 0.26, 0.62), looks={"striped green": 6, "spotted green": 4}, shape="rounded"),
        row(
            "blossom",
            "top",
            (0.0, -0.34, 0.28, 0.26),
            looks={"pointed pink": 5, "pointed red": 3, "round yellow": 2},
            chance=0.8,
        ),
        row("fruits", "face", (0.0, 0.02, 0.26, 0.44), looks={"long red": 3, "long purple": 3}, chance=0.4),
        row(
            "plate",
            "bottom",
            (0.0, 0.36, 0.44, 0.18),
            looks={"plain gray": 3, "striped blue": 3, "plain yellow": 3},
            chance=0.9,
        ),
    ),
    "mushroom": (
        row("stem", "bottom", (0.0, 0.20, 0.16, 0.40), looks={"thick white": 6, "thick yellow": 3}),
        row(
            "leaves",
            "sides",
            (0.22, 0.30, 0.24, 0.17),
            mirrored=True,
            looks={"pointed green": 5, "pointed brown": 3},
            chance=0.5,
        ),
        row("cap", "body", (0.0, -0.14, 0.74, 0.38), looks={"spotted red": 5, "plain brown": 4, "spotted purple": 2}),
    ),
}
