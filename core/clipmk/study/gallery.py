"""The images behind a study's numbers, small enough for one page: wrong predictions, and those that show a cue."""

import base64
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from clipmk.datasets.entries import Entry, Reader
from clipmk.datasets.opening import reader_of
from clipmk.errors import ClipmkError
from clipmk.study.plan import read_images
from clipmk.study.results import Results
from clipmk.study.schema import TableRow, check_concepts, images_schema
from clipmk.system.parquet import open_table

SIDE: Final = 256  # pixels of the longer side of a picture
BUDGET: Final = 2_500_000
"""Most characters of all pictures together; those of the groups that come first are taken first."""
SHOWN: Final = 156  # images of wrong predictions of all models together; each model has `LEAST` to `MOST`
LEAST: Final = 4
MOST: Final = 24  # a third as many of a cue


@dataclass(frozen=True, slots=True)
class Card:
    """An image with what the models say about it."""

    entry: Entry
    address: str
    """`data:` and the picture."""
    answers: dict[str, TableRow]
    """Model -> its row of the table `images`, and "shared", the mutual concepts."""


@dataclass(frozen=True, slots=True)
class Group:
    """Images behind one number, the most telling first."""

    model: str
    images: list[int]
    total: int
    """How many there are; `images` are the first of them."""
    cards: list[Card] = field(default_factory=list)


@dataclass(slots=True)
class LeftOut:
    """Images that were chosen and are not shown."""

    for_size: int = 0
    """They did not fit into `BUDGET`."""
    unreadable: list[str] = field(default_factory=list)
    """Why each of the others cannot be read any more."""


def wrong_groups(results: Results) -> list[Group]:
    """Per model, the most accurate first: wrong predictions, the most certain first; unlabelled the least certain."""
    columns = ("image", "model", "correct", "probability")
    table = pa.concat_tables(_images(results, columns, {"parts": results.manifest.parts[:1]}))
    most, groups = max(LEAST, min(MOST, SHOWN // len(results.models))), []
    for row in sorted(results.models, key=lambda row: -(row["top1"] or 0)):
        rows = table.filter(pc.equal(table["model"], row["model"]))
        if row["labelled"]:
            rows = rows.filter(pc.equal(rows["correct"], pa.scalar(value=False)))
        order = "descending" if row["labelled"] else "ascending"
        images = rows.sort_by([("probability", order), ("image", "ascending")])["image"].to_pylist()
        groups.append(Group(row["model"], images[:most], len(images)))
    return groups


def cue_groups(results: Results, cues: Sequence[TableRow]) -> list[Group]:
    """Per row of the table `cues`: images predicted so, with its text mutual; wrong ones first, then certain ones."""
    keys = [tuple(cue[name] for name in ("model", "parts", "class", "text")) for cue in cues]
    found: dict[tuple[str, ...], list[TableRow]] = {key: [] for key in keys}
    held = {column: [cue[column] for cue in cues] for column in ("model", "parts")}
    held["predicted"] = [cue["class"] for cue in cues]
    for row in _rows(results, held) if cues else ():
        for text in row["shared"]:
            found.get((row["model"], row["parts"], row["predicted"], text), []).append(row)
    for rows in found.values():
        rows.sort(key=lambda row: (row["correct"] is not False, -row["probability"], row["image"]))
    return [Group(model, [row["image"] for row in rows[: MOST // 3]], len(rows)) for (model, *_), rows in found.items()]


def add_cards(results: Results, groups: Sequence[Group]) -> LeftOut:
    """Read the images of all groups and add their cards, as long as the budget lasts: one shown twice counts twice."""
    chosen = [(group, image) for group in groups for image in group.images]
    images = sorted({image for _, image in chosen})
    answers: dict[int, dict[str, TableRow]] = defaultdict(dict)
    for row in _rows(results, {"image": images, "parts": results.manifest.parts[:1]}):
        answers[row["image"]][row["model"]] = row
    entries = {one.image: one.entry for one in (read_images(results.folder.plan, images) if images else ())}
    addresses, left_out, room, reader = dict[int, str](), LeftOut(), BUDGET, None
    for group, image in chosen:
        try:
            reader = reader or reader_of(results.manifest.dataset)
            address = addresses.get(image) or picture_address(reader, entries[image])
        except ClipmkError as reason:
            left_out.unreadable.append(str(reason))
            continue
        addresses[image] = address
        if len(address) > room:
            left_out.for_size += 1
        elif group.model in answers[image]:
            room -= len(address)
            group.cards.append(Card(entries[image], address, answers[image]))
    return left_out


def picture_address(reader: Reader, entry: Entry) -> str:
    """An image as `data:image/webp;base64,...`, at most `SIDE` pixels wide and high."""
    picture, file = reader.read(entry).image, io.BytesIO()
    picture.thumbnail((SIDE, SIDE))
    picture.save(file, format="WEBP", quality=75)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _rows(results: Results, held: Mapping[str, Sequence[Any]]) -> Iterator[TableRow]:
    """Rows of the table `images` as `_images` finds them, with "shared": mutual concepts and asked texts."""
    asks = results.manifest.asks
    columns = ["image", "model", "predicted", "correct", "probability", "vision_concepts", "mutual"]
    for table in _images(results, [*columns, *(("asked_seen", "asked_tied") if asks else ())], held):
        for row in table.to_pylist():
            shared = [text for text, mutual in zip(row["vision_concepts"], row["mutual"], strict=True) if mutual]
            if asks:
                flags = zip(asks, row["asked_seen"], row["asked_tied"], strict=True)
                shared += [text for text, seen, tied in flags if seen and tied]
            yield row | {"shared": list(dict.fromkeys(shared))}


def _images(results: Results, columns: Sequence[str], held: Mapping[str, Sequence[Any]]) -> Iterator[pa.Table]:
    """Rows of explained images that hold one of these values each; a row group at a time: the table may be large."""
    with open_table(results.folder.table("images"), images_schema(results.manifest.asks)) as file:
        for number in range(file.num_row_groups):
            group = file.read_row_group(number, columns=["parts", "predicted", *columns])
            check_concepts(group)
            kept = group["predicted"].is_valid()
            for name, values in held.items():
                kept = pc.and_(kept, pc.is_in(group[name], pa.array(values, group[name].type)))
            yield group.filter(kept)
