"""The studies that `jhpo serve` shows: one, or those of a folder, opened so that nothing is written."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import numpy as np

from jhpo.cli.console import number
from jhpo.errors import JhpoError, StorageError
from jhpo.report.html import Listed, render_list
from jhpo.storage import storage_url, without_password
from jhpo.storage.database import holds_study, sqlite_path
from jhpo.storage.files import file_identity
from jhpo.storage.spec import described
from jhpo.study.study import Study
from jhpo.trial import TrialState

HEAD = ("study", "strategy", "trials", "failed", "running", "best", "last result")


class Shown:
    """A stored study that stays open; threads take turns, and a file that was replaced is opened again.

    Args:
        storage: file or database URL.
    """

    def __init__(self, storage: str) -> None:
        self._storage, self._path = storage, sqlite_path(storage_url(storage))
        self._lock = threading.Lock()
        self._study: Study | None = None
        self._opened = 0  # how often
        self._drawn = ("", "")  # the state in which the page was drawn, and the page

    def state(self) -> str:
        """A short text that changes when the study does.

        Raises:
            JhpoError: the study cannot be read; likewise below.
        """
        with self._current() as study:
            return self._state(study)

    def page(self, home: str = "") -> str:
        """The page of the study as it is now."""
        with self._current() as study:
            state = self._state(study)
            if self._drawn[0] != state:
                self._drawn = state, study.page(live=True, home=home)
            return self._drawn[1]

    def cells(self) -> list[str]:
        """What the list of a folder says under `HEAD`."""
        with self._current() as study:
            table = study.history.table
            counts = [len(table.in_state(s)) for s in (TrialState.FAILED, TrialState.RUNNING)]
            best = "-"
            if study.objectives is not None:
                best = f"front of {len(study.trials.front()):,}"
            elif len(ids := table.ranked(study.sign)):
                best = number(float(table.value.array[ids[0]]))
            told = table.told.array[np.isfinite(table.told.array)]
            last = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(told.max())) if len(told) else "-"
            return [described(study.history.header["strategy"]), str(table.size), *map(str, counts), best, last]

    def close(self) -> None:
        """Releases the database."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._study is not None:
            self._study.close()
        self._study = None

    def _state(self, study: Study) -> str:
        log = study.ledger.log
        return f"{self._opened}: {log.identity}: {log.seq}"

    @contextlib.contextmanager
    def _current(self) -> Iterator[Study]:
        """The study with everything that is stored by now."""
        with self._lock:
            if self._study is not None and self._path is not None:
                if file_identity(self._path) != self._study.ledger.log.identity:
                    self._drop()
            if self._study is not None:
                try:
                    self._study.refresh()
                except JhpoError:  # another file, perhaps, to which the system gave the number of the one before
                    self._drop()
            if self._study is None:
                self._study = Study.load(self._storage, read_only=True)
                self._opened += 1
            yield self._study


class Shelf:
    """One stored study, or all those in a folder.

    Args:
        storage: file, folder or database URL.

    Raises:
        StorageError: no such file, nothing of jhpo, or a folder without studies.
    """

    def __init__(self, storage: str) -> None:
        path = Path(storage)
        self._folder = path.resolve() if "://" not in storage and path.is_dir() else None
        self.title = str(self._folder) if self._folder else without_password(storage)
        self._open: dict[str, Shown] = {}
        if self._folder is None:
            self._open[""] = Shown(storage)
            self._open[""].state()
        elif not self.names():
            raise StorageError(f"there is no study in the folder {path}: jhpo tune FILE.py --storage NAME.db makes one")

    def names(self) -> list[str]:
        """Files of the folder that hold a study; none for a single study."""
        if self._folder is None:
            return []
        try:
            found = sorted(p for p in self._folder.iterdir() if not p.name.startswith("."))
        except OSError as error:
            raise StorageError(f"cannot read {self._folder}: {error.strerror}") from error
        return [path.name for path in found if path.is_file() and holds_study(path)]

    def state(self, name: str = "") -> str:
        """A text that changes when a study does; without a name, when any of the folder does.

        Args:
            name: one of `names`; empty for the single study, or for the list.

        Raises:
            JhpoError: the study cannot be read; likewise below.
        """
        if name or self._folder is None:
            return self._shown(name).state()
        return "\n".join(f"{each} {self._said(each)}" for each in self.names())

    def page(self, name: str = "") -> str:
        """The page of a study, or without a name of a folder the list."""
        if self._folder is None:
            return self._shown(name).page()
        if name:
            return self._shown(name).page(home="./")
        names = self.names()
        problem = "" if names else "There is no study in this folder now."
        return render_list(self.title, HEAD, [self._listed(each) for each in names], problem)

    def broken(self, name: str, error: Exception) -> str:
        """The page of a study that cannot be read now."""
        return render_list(name or self.title, HEAD, [], str(error))

    def close(self) -> None:
        """Releases all databases."""
        for shown in self._open.values():
            shown.close()

    def _shown(self, name: str) -> Shown:
        if self._folder is not None:
            self._open.setdefault(name, Shown(str(self._folder / name)))
        return self._open[name]

    def _said(self, name: str) -> str:
        try:
            return self._shown(name).state()
        except JhpoError as error:
            return str(error)

    def _listed(self, name: str) -> Listed:
        link = f"?{urlencode({'study': name})}"
        try:
            return Listed(name, link, self._shown(name).cells())
        except JhpoError as error:
            return Listed(name, link, (), str(error))
