"""Models and vocabularies that the worker keeps in memory for all clients; importing this loads no torch."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipmk.system.memory import LruCache, device_memory
from clipmk.vocabulary.classes import parse_classes
from clipmk.vocabulary.vocabulary import Vocabulary, default_vocabulary, load_vocabulary
from clipmk.worker.jobs import INTERVAL
from clipmk.worker.session import Session

if TYPE_CHECKING:
    from clipmk.pipeline.explainer import Explainer

VOCABULARIES = 8  # how many vocabularies are kept
EXTENDED = 8  # how many explainers with added classes are kept

Stamp = tuple[str, int, int]
"""Absolute path, time of the last change in nanoseconds and size in bytes: another content, another stamp."""

ExplainerKey = tuple[object, ...]  # all that an explainer is made of, up to the files of its model


class Explainers:
    """Explainers by model and session, as many as half of the device's memory holds; the least recent one goes first.

    While loading, `report` is called with (stage, done, total), and `check` otherwise; both may raise to cancel the
    work.
    """

    def __init__(self, *, report: Callable[[str, int, int], None], check: Callable[[], None]) -> None:
        self.held: LruCache[ExplainerKey, Explainer] = LruCache(0)
        self._report = report
        self._check = check
        self._extended: LruCache[tuple[ExplainerKey, tuple[str, ...]], Explainer] = LruCache(EXTENDED)
        self._vocabularies: LruCache[tuple[object, ...], Vocabulary] = LruCache(VOCABULARIES)
        self._sizes: dict[ExplainerKey, int] = {}
        self._has_open_clip = False

    def vocabulary(self, model: str, session: Session) -> Vocabulary:
        """The session's vocabulary with all its classes; the model's own where the session names none."""
        base = self._base_vocabulary(model, session)
        added = session.added_classes
        return base.with_classes(dict.fromkeys((*base.classes, *added))) if added else base

    def _base_vocabulary(self, model: str, session: Session) -> Vocabulary:
        name = default_vocabulary(model) if session.vocabulary is None else session.vocabulary
        key = (name, file_stamp(name), session.classes, file_stamp(session.classes or ""))
        known = self._vocabularies.get(key)
        if known is None:
            known = load_vocabulary(name)
            if session.classes is not None:
                known = parse_classes(session.classes).within(known)
            self._vocabularies.put(key, known, weight=1)
        return known

    def key(self, model: str, session: Session) -> ExplainerKey:
        """Identifies an explainer before classes are added; a changed file gives another key."""
        vocabulary = self._base_vocabulary(model, session)
        from clipmk.backbones import library  # noqa: PLC0415
        from clipmk.models import loading  # noqa: PLC0415 - torch
        from clipmk.models.spec import resolve  # noqa: PLC0415

        if not self._has_open_clip and loading.needs_open_clip(model):
            self._report("loading", 0, 0)
            self._wait_for(library.open_clip)
            self._has_open_clip = True
        spec = resolve(model, arch=session.arch, download=session.download)
        words = (vocabulary.name, vocabulary.sha256, vocabulary.notes)
        described = [] if spec.folder is None else sorted(spec.folder.glob("*.json"))
        stamps = tuple(file_stamp(str(path)) for path in (spec.weights, spec.bpe, *described) if path is not None)
        return (model, session.arch, session.device, session.precision, session.cache, words, stamps)

    def get(self, key: ExplainerKey, model: str, session: Session) -> Explainer:
        """The explainer of a key under the session's classes and settings: held already, or loaded now."""
        found = self.held.get(key) or self._load(key, model, session)
        if session.added_classes:
            extended = self._extended.get((key, session.added_classes)) or found.with_classes(session.added_classes)
            self._extended.put((key, session.added_classes), extended, weight=1)
            found = extended
        return found.with_settings(session.settings)

    def clear(self) -> None:
        """Unload every model."""
        self.held.clear()
        self._extended.clear()
        _free_memory()

    def _load(self, key: ExplainerKey, model: str, session: Session) -> Explainer:
        self._report("loading", 0, 0)
        from clipmk.models import loading  # noqa: PLC0415
        from clipmk.pipeline.explainer import Explainer  # noqa: PLC0415

        started = time.perf_counter()
        self._make_room(self._sizes.get(key, 0))
        backbone = loading.load(
            model, device=session.device, precision=session.precision, arch=session.arch, download=session.download
        )
        load_ms = 1_000 * (time.perf_counter() - started)
        self._check()
        self.held.budget = device_memory(backbone.device) // 2
        self._make_room(backbone.nbytes)
        explainer = Explainer(
            backbone,
            self._base_vocabulary(model, session),
            session.settings,
            cache=session.cache,
            progress=self._report,
            load_ms=load_ms,
        )
        self._sizes[key] = backbone.nbytes + explainer.bank.nbytes
        self.held.put(key, explainer, weight=self._sizes[key])
        return explainer

    def _make_room(self, weight: int) -> None:
        before = self.held.keys
        self.held.make_room(weight)
        if self.held.keys != before:
            self._extended.clear()
            _free_memory()

    def _wait_for(self, work: Callable[[], object]) -> None:
        """Do something that cannot be interrupted, such as an import, in a thread: cancelling ends the wait for it."""
        pool = ThreadPoolExecutor(max_workers=1)
        doing = pool.submit(work)
        pool.shutdown(wait=False)  # its one task goes on
        while not wait([doing], timeout=INTERVAL).done:
            self._check()
        doing.result()


def file_stamp(name: str) -> Stamp:
    """The stamp of a file; (path, -1, -1) if it cannot be read: reading it will raise the right error."""
    path = os.path.abspath(os.path.expanduser(name))  # noqa: PTH100, PTH111 - keeps what is not a path at all
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return (path, -1, -1)
    return (path, found.st_mtime_ns, found.st_size)


def _free_memory() -> None:
    """Free the memory of dropped models: modules refer to each other in circles, allocators keep blocks."""
    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
