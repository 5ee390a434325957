"""A SQLite log that is only read: nothing is left beside the file, and nobody has to wait."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import sqlalchemy as sa

from jhpo.errors import StorageError
from jhpo.storage.codec import Entry
from jhpo.storage.database import make_engine
from jhpo.storage.files import FileIdentity, file_identity
from jhpo.storage.sql import SqlLog

T = TypeVar("T")
_State = tuple[FileIdentity, int, int]  # identity, size and time of the last change


def at_rest(path: pathlib.Path) -> _State | None:
    """The state of a file that nobody has open for writing; None for another one, or if there is no file.

    A writer's first commit makes a write-ahead log beside the file, which its last one to leave puts into the file and
    removes.
    """
    identity = file_identity(path)
    if identity is None or path.with_name(path.name + "-wal").exists():
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return identity, found.st_size, found.st_mtime_ns


class SqliteReader(SqlLog):
    """A `SqlLog` in a file, connected only while it reads.

    SQLite makes a write-ahead log and shared memory beside a file that it opens, and who may only read cannot remove
    them. So a file at rest is read as immutable, which uses neither and takes no locks; if it is not the same
    afterwards, somebody has written meanwhile, and it is read again. A file that is being written is read through its
    write-ahead log, which is there already.

    Raises:
        StorageError: as of `SqlLog`.
    """

    def __init__(self, url: sa.URL) -> None:
        super().__init__(url, create=False, read_only=True)
        self._disconnect()

    def read(self) -> list[Entry]:
        begin, whole = (self.seq, self._chain), super().read

        def again() -> list[Entry]:
            self.seq, self._chain = begin  # also of a pass whose entries are dropped
            return whole()

        return self._settled(again)

    def load_snapshots(self) -> list[tuple[int, bytes]]:
        return self._settled(super().load_snapshots)

    def pulses(self) -> dict[str, tuple[float, float]]:
        return self._settled(super().pulses)

    def _settled(self, work: Callable[[], T]) -> T:
        """What `work` reads, of one state of the file."""
        assert self._path is not None
        while True:
            try:
                found = work()
            except StorageError:
                if self._rested == at_rest(self._path):
                    raise  # nobody has written
            else:
                if self._rested is None or self._rested == at_rest(self._path):
                    return found

    def _connect(self) -> None:
        assert self._path is not None
        self._rested = at_rest(self._path)
        super()._connect()

    def _reconnect_after_fork(self) -> None:
        """Nothing to do, as every read connects."""

    def _make_engine(self) -> sa.Engine:
        return make_engine(self._target, self._path, True, immutable=self._rested is not None)

    def _disconnect(self) -> None:
        self.connection.close()
        self.engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self._connect()
        try:
            with super()._reading():
                yield
        finally:
            self._disconnect()
