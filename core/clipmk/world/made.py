"""Class tables of vehicles and buildings; see `tables`."""

from __future__ import annotations

from typing import Final

from clipmk.world.records import Part, row

VEHICLES: Final[dict[str, tuple[Part, ...]]] = {
    "car": (
        row("cabin", "top", (0.02, -0.16, 0.50, 0.24), looks={"round red": 4, "round blue": 3, "round white": 3}),
        row(
            "windows",
            "face",
            (-0.09, -0.14, 0.16, 0.13),
            (0.12, -0.14, 0.16, 0.13),
            looks={"square blue": 5, "square white": 4},
        ),
        row(
            "body",
            "body",
            (0.0, 0.08, 0.84, 0.26),
            looks={"plain red": 4, "plain blue": 3, "plain green": 3},
            shape="rounded",
        ),
        row("headlights", "front", (-0.36, 0.05, 0.15, 0.14), looks={"round yellow": 6, "round white": 3}),
        row(
            "wheels",
            "bottom",
            (-0.23, 0.23, 0.24, 0.24),
            (0.23, 0.23, 0.24, 0.24),
            looks={"round black": 6, "round gray": 3},
        ),
    ),
    "truck": (
        row("chimney", "top", (-0.08, -0.24, 0.09, 0.28), looks={"tall gray": 5, "tall black": 3}, chance=0.6),
        row(
            "container",
            "body",
            (0.17, -0.06, 0.52, 0.42),
            looks={"plain white": 4, "striped orange": 3, "striped blue": 3},
        ),
        row("cabin", "front", (-0.27, 0.02, 0.30, 0.34), looks={"square red": 4, "square blue": 3, "square green": 3}),
        row("windows", "face", (-0.29, -0.05, 0.18, 0.14), looks={"square white": 5, "square black": 4}),
        row(
            "headlights", "front", (-0.37, 0.13, 0.14, 0.13), looks={"square yellow": 5, "square white": 3}, chance=0.8
        ),
        row(
            "wheels",
            "bottom",
            (-0.26, 0.25, 0.20, 0.20),
            (0.08, 0.25, 0.20, 0.20),
            (0.32, 0.25, 0.20, 0.20),
            looks={"round black": 6, "spoked gray": 3},
        ),
    ),
    "train": (
        row("smoke", "top", (-0.14, -0.38, 0.32, 0.20), looks={"round gray": 5, "round white": 4}, chance=0.85),
        row("chimney", "top", (-0.26, -0.16, 0.13, 0.24), looks={"tapered black": 5, "tapered red": 3}),
        row("cabin", "back", (0.25, -0.06, 0.30, 0.44), looks={"square red": 4, "square green": 4, "square black": 2}),
        row(
            "body",
            "body",
            (-0.14, 0.06, 0.52, 0.28),
            looks={"plain black": 3, "plain green": 3, "striped red": 3},
            shape="rounded",
        ),
        row("windows", "face", (0.25, -0.12, 0.18, 0.17), looks={"square yellow": 5, "square blue": 3}),
        row(
            "wheels",
            "bottom",
            (-0.29, 0.24, 0.21, 0.21),
            (-0.03, 0.24, 0.21, 0.21),
            (0.25, 0.24, 0.21, 0.21),
            looks={"spoked red": 5, "spoked black": 4},
        ),
    ),
    "sailboat": (
        row("mast", "back", (0.0, -0.08, 0.07, 0.68), looks={"tall brown": 6, "tall gray": 3}),
        row(
            "flag",
            "top",
            (0.10, -0.40, 0.22, 0.18),
            looks={"triangular red": 4, "triangular yellow": 3, "square blue": 2},
            chance=0.6,
        ),
        row("sail", "top", (0.0, -0.06, 0.64, 0.48), looks={"plain white": 4, "striped red": 4, "striped orange": 2}),
        row("hull", "body", (0.0, 0.29, 0.74, 0.22), looks={"curved brown": 4, "curved blue": 3, "angular red": 3}),
    ),
    "bicycle": (
        row(
            "wheels",
            "bottom",
            (-0.28, 0.14, 0.40, 0.40),
            (0.28, 0.14, 0.40, 0.40),
            looks={"spoked black": 5, "spoked gray": 4},
        ),
        row("frame", "body", (0.02, -0.02, 0.54, 0.36), looks={"thin red": 4, "thin blue": 3, "thick green": 3}),
        row("seat", "top", (0.12, -0.23, 0.24, 0.10), looks={"flat black": 5, "flat brown": 4}),
        row("handlebar", "front", (-0.22, -0.25, 0.24, 0.22), looks={"curved black": 4, "straight gray": 4}),
    ),
    "airplane": (
        row("tail", "back", (0.36, -0.13, 0.18, 0.26, -60), looks={"forked red": 4, "forked blue": 4}),
        row(
            "body",
            "body",
            (-0.02, 0.0, 0.84, 0.25),
            looks={"plain white": 5, "plain gray": 3, "striped blue": 3},
            shape="fuselage",
        ),
        row(
            "wings",
            "sides",
            (0.10, 0.14, 0.42, 0.26),
            looks={"plain red": 3, "striped red": 3, "plain white": 3},
            shape="plane-wing",
        ),
        row(
            "windows",
            "face",
            (-0.22, -0.04, 0.11, 0.11),
            (-0.06, -0.04, 0.11, 0.11),
            (0.10, -0.04, 0.11, 0.11),
            looks={"round blue": 5, "round black": 4},
        ),
        row("blades", "front", (-0.43, 0.0, 0.16, 0.36), looks={"pointed black": 4, "pointed brown": 4}, chance=0.7),
    ),
    "rocket": (
        row("flames", "bottom", (0.0, 0.38, 0.24, 0.20), looks={"pointed orange": 5, "pointed yellow": 4}, chance=0.85),
        row(
            "fin",
            "sides",
            (0.21, 0.20, 0.20, 0.26),
            (-0.21, 0.20, -0.20, 0.26),
            looks={"pointed red": 5, "pointed blue": 4},
        ),
        row("tip", "top", (0.0, -0.34, 0.24, 0.24), looks={"pointed red": 5, "pointed black": 3, "round orange": 2}),
        row("body", "body", (0.0, 0.03, 0.34, 0.54), looks={"plain white": 5, "striped gray": 4}, shape="rocket"),
        row("windows", "face", (0.0, -0.07, 0.18, 0.18), looks={"round blue": 5, "round yellow": 4}),
    ),
}

BUILDINGS: Final[dict[str, tuple[Part, ...]]] = {
    "house": (
        row("chimney", "top", (0.19, -0.32, 0.13, 0.28), looks={"tall red": 4, "tall brown": 4}, chance=0.8),
        row("walls", "body", (0.0, 0.18, 0.62, 0.46), looks={"plain white": 3, "plain yellow": 4, "striped gray": 3}),
        row("roof", "top", (0.0, -0.19, 0.78, 0.32), looks={"pointed red": 5, "pointed brown": 3, "flat black": 2}),
        row("door", "face", (0.0, 0.27, 0.16, 0.28), looks={"square brown": 4, "square green": 3, "arched red": 2}),
        row(
            "windows",
            "sides",
            (-0.20, 0.13, 0.15, 0.16),
            (0.20, 0.13, 0.15, 0.16),
            looks={"square blue": 5, "square yellow": 3},
        ),
    ),
    "castle": (
        row(
            "flag",
            "top",
            (0.07, -0.36, 0.24, 0.28),
            looks={"triangular red": 4, "triangular blue": 3, "square yellow": 2},
            chance=0.8,
        ),
        row(
            "walls", "body", (0.0, 0.17, 0.56, 0.44), looks={"plain gray": 5, "checkered gray": 4, "checkered white": 2}
        ),
        row(
            "turrets",
            "sides",
            (-0.31, 0.06, 0.24, 0.66),
            (0.31, 0.06, 0.24, 0.66),
            looks={"flat gray": 3, "flat white": 3, "pointed purple": 3, "pointed brown": 2},
        ),
        row("door", "bottom", (0.0, 0.26, 0.22, 0.27), looks={"arched brown": 6, "arched black": 3}),
        row(
            "windows",
            "face",
            (-0.10, 0.03, 0.12, 0.13),
            (0.10, 0.03, 0.12, 0.13),
            looks={"square black": 4, "round yellow": 4},
            chance=0.7,
        ),
    ),
    "lighthouse": (
        row("tower", "body", (0.0, 0.10, 0.36, 0.60), looks={"striped red": 6, "plain white": 4}),
        row(
            "lantern",
            "face",
            (0.0, -0.23, 0.26, 0.22),
            looks={"round yellow": 4, "square yellow": 3, "square white": 3},
        ),
        row("roof", "top", (0.0, -0.39, 0.32, 0.18), looks={"domed red": 3, "pointed black": 3, "domed blue": 3}),
        row("door", "bottom", (0.0, 0.31, 0.15, 0.20), looks={"arched green": 4, "arched blue": 4}, chance=0.85),
        row("walls", "back", (0.27, 0.28, 0.28, 0.26), looks={"plain yellow": 3, "plain pink": 3}, chance=0.5),
    ),
    "windmill": (
        row("tower", "body", (0.0, 0.17, 0.40, 0.50), looks={"plain white": 4, "plain yellow": 3, "checkered gray": 3}),
        row("roof", "top", (0.0, -0.18, 0.38, 0.24), looks={"domed brown": 4, "pointed red": 3, "domed green": 3}),
        row("door", "bottom", (0.0, 0.32, 0.16, 0.22), looks={"arched brown": 4, "square red": 3}),
        row("windows", "face", (0.0, 0.12, 0.14, 0.13), looks={"round blue": 4, "round black": 3}, chance=0.6),
        row("blades", "sides", (0.0, -0.14, 0.68, 0.68), looks={"wide white": 4, "wide gray": 4, "wide brown": 2}),
    ),
}
