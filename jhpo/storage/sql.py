"""The append-only log in a database, through SQLAlchemy Core."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from jhpo.errors import MissingExtra, StorageError
from jhpo.storage import schema
from jhpo.storage.codec import GENESIS, Entry, digest, follow, link, pack, unpack
from jhpo.storage.database import HEAD, is_damage, make_engine, make_tables, new_file, short, sqlite_path
from jhpo.storage.files import check_file, create_file, file_identity

T = TypeVar("T")
_CREATION_LOCK = 0x6A68706F  # "jhpo": PostgreSQL advisory lock around the creation of tables
_ONE_VIEW = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"  # or else each statement would see a newer state
_SNAPSHOTS_KEPT = 2  # the newest, and one more in case it is damaged
_SET_HEAD = schema.meta.update().where(schema.meta.c.key == "head")
_ADD = schema.log.insert()
_COLUMNS = schema.log.c
_NEWS = (
    sa.select(*(_COLUMNS[name] for name in ("seq", "kind", "body", "digest", "chain")))
    .where(_COLUMNS.seq >= sa.bindparam("first"))
    .order_by(_COLUMNS.seq)
)


class SqlLog:
    """The log of one study in the database at `url`; every transaction is exclusive, and durable once it returns.

    ``engine`` and ``connection`` are SQLAlchemy objects of this process.

    Raises:
        StorageError: the database cannot be opened, is not jhpo's, has a newer format, or is damaged.
    """

    persistent = True

    def __init__(self, url: sa.URL, *, create: bool, read_only: bool = False) -> None:
        self._target, self.read_only = url, read_only
        path = sqlite_path(url)
        self.url = url.render_as_string() if path is None else str(path)  # for messages, no password
        self._path = None if path is None else path.absolute()  # the process may go to another folder
        self._file: tuple[int, int] | None = None
        self._made = False  # a server's database has its tables; only one process at a time makes them
        self.seq, self._chain = 0, GENESIS
        if path is not None and check_file(path, create):
            create_file(path, new_file)
            check_file(path, create=False)
        self._connect()
        with self._explained("open"):
            try:
                self._check_format(create)
                if self._path is not None and not read_only:
                    # not through SQLAlchemy, which would begin a transaction
                    self.connection.connection.driver_connection.execute("PRAGMA journal_mode=WAL")  # type: ignore[union-attr]
            except BaseException:
                self.close()
                raise

    def _connect(self) -> None:
        self._pid = os.getpid()
        try:
            self.engine = self._make_engine()
            self.connection = self.engine.connect()
            self._file = None if self._path is None else file_identity(self._path)
        except ImportError as error:
            raise MissingExtra(f"{self.url} needs {error.name}: pip install 'jhpo[postgresql]'") from error
        except SQLAlchemyError as error:
            raise StorageError(f"cannot open {self.url}: {short(error)}") from error

    def _make_engine(self) -> sa.Engine:
        return make_engine(self._target, self._path, self.read_only)

    def _check_format(self, create: bool) -> None:
        """Checks the database before anything is written, so that a foreign or newer one is not changed."""
        inspector = sa.inspect(self.connection)
        there = set(inspector.get_table_names())
        self.connection.rollback()
        if schema.meta.name not in there:
            if there:
                raise StorageError(f"{self.url} is a database, but not of jhpo (it holds {sorted(there)[:3]})")
            if not create:
                raise StorageError(f"{self.url} holds no study")
            self._create()
        self._check_version()

    def _create(self) -> None:
        with self._exclusive():
            make_tables(self.connection)

    def _check_version(self) -> None:
        meta = self._meta()
        self.connection.rollback()
        if meta.get("application") != "jhpo" or not meta.get("format", "").isdecimal():
            raise StorageError(f"{self.url} is not a jhpo study: its description is damaged; try `jhpo repair`")
        found = int(meta["format"])
        if not schema.OLDEST <= found <= schema.FORMAT:
            raise StorageError(
                f"{self.url} has storage format {found}; this jhpo reads {schema.OLDEST} to {schema.FORMAT}. "
                "Nothing was changed; upgrade jhpo to open it"
            )

    def _meta(self) -> dict[str, str]:
        return {row.key: row.value for row in self.connection.execute(sa.select(schema.meta))}

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One write transaction, exclusive from its first read to its commit."""
        connection = self.connection.execution_options(jhpo_write=True)
        try:
            with self._anew(self._begin_exclusive):
                yield
        finally:
            connection.execution_options(jhpo_write=False)
            self.connection.rollback()  # of a transaction that a Ctrl-C left half begun; otherwise there is none

    def _begin_exclusive(self) -> sa.RootTransaction:
        transaction = self.connection.begin()
        if self.engine.dialect.name == "postgresql":
            self.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATION_LOCK)))
        if self.engine.dialect.name != "sqlite" and not self._made:
            self._made = sa.inspect(self.connection).has_table(schema.meta.name)
        if self._made:
            self.connection.execute(HEAD.with_for_update())
        return transaction

    def _anew(self, begin: Callable[[], T]) -> T:
        """``begin()``; once more if that shows that the server has closed the connection, as nothing is lost yet."""
        try:
            return begin()
        except DBAPIError as error:
            self.connection.rollback()
            if not error.connection_invalidated:
                raise
            return begin()

    @contextmanager
    def write(self) -> Iterator[SqlLog]:
        """A transaction in which to `read` and `append`: at the end of the block everything is durable, or nothing."""
        if self.read_only:
            raise StorageError(f"{self.url} was opened read-only")
        self._reconnect_after_fork()
        before = (self.seq, self._chain)
        self._read_to = before
        try:
            self._check_there()
            with self._explained("write"), self._exclusive():
                yield self
                if self.seq > self._read_to[0]:
                    self.connection.execute(_SET_HEAD, {"value": f"{self.seq}:{self._chain.hex()}"})
                self._check_there()  # writes to a deleted file would be lost
        except BaseException:
            # keep what others had committed; undo what this transaction added
            self.seq, self._chain = self._read_to
            raise

    def read(self) -> list[Entry]:
        """Entries added since the last call, verified, oldest first."""
        self._reconnect_after_fork()
        events: list[Entry] = []
        with self._reading():
            head = self.connection.execute(HEAD).scalar_one_or_none()
            seq, chain = self.seq, self._chain
            known = seq > 0 and head == f"{seq}:{chain.hex()}"  # mostly nobody else has written
            for row in () if known else self.connection.execute(_NEWS, {"first": seq}):
                chain = follow(chain, seq, row)
                events.append(Entry(seq, row[1], unpack(row[2], f"log row {seq}")))
                seq += 1
        if head != f"{seq}:{chain.hex()}":
            raise StorageError(
                f"{self.url}: the log ends at row {seq}, the recorded end is {str(head).split(':')[0]}: "
                "rows are missing; try `jhpo repair`"
            )
        self.seq, self._chain = seq, chain
        self._read_to = (seq, chain)
        return events

    def rewind(self) -> None:
        """Makes the next `read` start from the first entry."""
        self.seq, self._chain = 0, GENESIS

    def append(self, kind: str, body: dict[str, Any]) -> Entry:
        """Adds an entry within a `write` transaction."""
        data = pack(body)
        row_digest = digest(self.seq, kind, data)
        chain = link(self._chain, row_digest)
        self.connection.execute(
            _ADD,
            {"seq": self.seq, "kind": kind, "body": data, "digest": row_digest, "chain": chain},
        )
        event = Entry(self.seq, kind, body)
        self.seq, self._chain = self.seq + 1, chain
        return event

    def save_snapshot(self, generation: int, data: bytes) -> None:
        """Stores the strategy's state at the start of `generation`; the two newest are kept."""
        table = schema.snapshot
        with self._explained("write"), self._exclusive():
            self.connection.execute(table.delete().where(table.c.generation == generation))
            row = {"generation": generation, "body": data, "digest": digest(generation, "snapshot", data)}
            self.connection.execute(table.insert(), row)
            kept = sa.select(table.c.generation).order_by(table.c.generation.desc()).limit(_SNAPSHOTS_KEPT)
            oldest = min(self.connection.execute(kept).scalars())
            self.connection.execute(table.delete().where(table.c.generation < oldest))

    def load_snapshots(self) -> list[tuple[int, bytes]]:
        """Intact snapshots as ``(generation, bytes)``, newest first; damaged ones are ignored, as they are a cache."""
        table = schema.snapshot
        with self._reading():
            rows = self.connection.execute(sa.select(table).order_by(table.c.generation.desc())).all()
        return [(g, data) for g, data, mark in rows if digest(g, "snapshot", data) == mark]

    def announce(self, worker: str, period: float) -> None:
        """Registers a worker, which will `beat` every `period` seconds; within a `write` transaction."""
        schema.pulse.create(self.connection, checkfirst=True)
        _set_pulse(self.connection, worker, period)

    def beat(self, worker: str, period: float) -> None:
        """Heartbeat of a worker; may come from another thread."""
        self._check_there()
        try:
            with self.engine.connect() as connection:  # the study's own connection may be in a transaction
                with connection.execution_options(jhpo_write=True).begin():
                    _set_pulse(connection, worker, period)
        except SQLAlchemyError as error:
            raise StorageError(f"cannot write {self.url}: {short(error)}") from error

    def withdraw(self, worker: str) -> None:
        """Unregisters a worker."""
        with self._explained("write"), self._exclusive():
            self.connection.execute(schema.pulse.delete().where(schema.pulse.c.worker == worker))

    def pulses(self) -> dict[str, tuple[float, float]]:
        """``(time of the last heartbeat, period)`` of every registered worker."""
        with self._reading():
            there = sa.inspect(self.connection).has_table(schema.pulse.name)  # missing in files of earlier versions
            rows = self.connection.execute(sa.select(schema.pulse)).all() if there else []
        return {worker: (beat, period) for worker, beat, period in rows}

    def close(self) -> None:
        """Releases the database."""
        self.connection.close()
        self.engine.dispose()

    @property
    def identity(self) -> Hashable:
        """Equal for all logs of this process that write to the same place."""
        return self._file if self._file is not None else self.url

    def _check_there(self) -> None:
        """Raises if the file was deleted, moved or replaced, or emptied, since it was opened."""
        if self._path is not None and file_identity(self._path) != self._file:
            raise StorageError(
                f"{self.url} was deleted, moved or replaced, or emptied, while it was open: nothing more can be kept "
                "in it. Put the file back, or open the study again"
            )

    def _reconnect_after_fork(self) -> None:
        if os.getpid() != self._pid:
            # a connection must not be used on both sides of a fork; the parent keeps it
            self.engine.dispose(close=False)
            self._connect()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """A consistent view of the database: that of the current transaction, or of a new one."""
        inside = self.connection.in_transaction()
        with self._explained("read"):
            try:
                if not inside and self.engine.dialect.name == "postgresql":
                    self._anew(lambda: self.connection.exec_driver_sql(_ONE_VIEW))
                yield
            finally:
                if not inside:
                    self.connection.rollback()

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            gone = isinstance(error, DBAPIError) and error.connection_invalidated
            advice = "; the next call connects again" if gone else ""
            shut = "it was closed; jhpo.Study.load opens it again" if self.connection.closed else ""
            safe = "" if is_damage(error) else f". Everything acknowledged before is safe{advice}"
            why = shut or f"{short(error)}{safe}"
            raise StorageError(f"cannot {doing} {self.url}: {why}") from error


def _set_pulse(connection: sa.Connection, worker: str, period: float) -> None:
    table, row = schema.pulse, {"time": time.time(), "period": period}
    if not connection.execute(table.update().where(table.c.worker == worker).values(row)).rowcount:
        connection.execute(table.insert(), row | {"worker": worker})
