"""Opening databases: SQLite in WAL mode by default, others by their URL."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from jhpo.errors import StorageError
from jhpo.storage import schema
from jhpo.storage.codec import GENESIS
from jhpo.storage.files import SQLITE

_CONNECT_SECONDS = 10  # for a server to answer
_BUSY_SECONDS = 60.0  # how long to wait for another writer
HEAD = sa.select(schema.meta.c.value).where(schema.meta.c.key == "head")


def sqlite_path(url: sa.URL) -> pathlib.Path | None:
    """The file behind a SQLite URL, None for another database.

    >>> str(sqlite_path(sa.make_url("sqlite:///runs/study.db")))
    'runs/study.db'
    """
    if url.get_backend_name() != "sqlite":
        return None
    if not url.database or url.database == ":memory:":
        raise StorageError("storage: expected a SQLite file; leave storage out for a study in memory")
    return pathlib.Path(url.database)


def holds_study(path: pathlib.Path) -> bool:
    """Whether a file is a database of jhpo, or a damaged one that may be; it is not changed, nor its folder.

    >>> import pathlib
    >>> holds_study(pathlib.Path(__file__))
    False
    """
    try:
        with path.open("rb") as file:
            if file.read(16) != SQLITE:
                return False
        target = f"{path.absolute().as_uri()}?immutable=1"
        with contextlib.closing(sqlite3.connect(target, uri=True)) as connection:
            found = connection.execute("SELECT name FROM sqlite_master").fetchall()
    except sqlite3.DatabaseError:
        return True
    except OSError:
        return False
    return (schema.meta.name,) in found


def make_tables(connection: sa.Connection) -> None:
    """Creates the tables of an empty log, unless another process has done so."""
    schema.metadata.create_all(connection, checkfirst=True)
    if connection.execute(HEAD).scalar_one_or_none() is None:
        values = {"application": "jhpo", "format": str(schema.FORMAT), "head": f"0:{GENESIS.hex()}"}
        connection.execute(schema.meta.insert(), [{"key": k, "value": v} for k, v in values.items()])


def new_file(path: pathlib.Path) -> None:
    """Creates a SQLite file with the tables of a study, closed and synced to disk."""
    path.touch(exist_ok=False)
    engine = make_engine(sa.URL.create("sqlite"), path, False)
    try:
        with engine.connect() as connection:
            connection.connection.driver_connection.execute("PRAGMA journal_mode=WAL")  # type: ignore[union-attr]
            with connection.execution_options(jhpo_write=True).begin():
                make_tables(connection)
    except SQLAlchemyError as error:
        raise StorageError(f"cannot create a file in {path.parent}: {short(error)}") from error
    finally:
        engine.dispose()


def make_engine(url: sa.URL, path: pathlib.Path | None, read_only: bool, immutable: bool = False) -> sa.Engine:
    """The engine of a database; `path` is its file if it is SQLite, `immutable` if nobody writes it meanwhile."""
    if path is None:
        ours: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS}
        if read_only:
            ours["options"] = "-c default_transaction_read_only=on"
        free = url.get_driver_name() == "psycopg"
        ours = {name: value for name, value in ours.items() if free and name not in url.query}
        return sa.create_engine(url, isolation_level="READ COMMITTED", pool_pre_ping=True, connect_args=ours)
    options: dict[str, Any] = {"timeout": _BUSY_SECONDS, "check_same_thread": False}
    # as a URI, quoted by pathlib; `rw` opens an existing file and never creates one
    mode = "immutable=1" if immutable else "mode=ro" if read_only else "mode=rw"
    target = f"{path.absolute().as_uri()}?{mode}"
    # our own creator, as SQLAlchemy would quote and parse the path as a URL
    engine = sa.create_engine(url, creator=lambda: sqlite3.connect(target, uri=True, **options))

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None  # `begin` below starts transactions, not the driver
        connection.execute("PRAGMA synchronous=FULL")  # commits survive a power cut

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        write = connection.get_execution_options().get("jhpo_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def is_damage(error: Exception) -> bool:
    """Whether SQLite says that its file is not whole: pages are damaged, or a table is missing."""
    original = getattr(error, "orig", None)
    code = getattr(original, "sqlite_errorcode", 0) & 0xFF  # the lowest byte is the kind
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "no such table" in str(original)


def short(error: Exception) -> str:
    """The database's own message, without SQLAlchemy's statement and link."""
    original = getattr(error, "orig", None)
    text = str(original if original is not None else error).splitlines()[0]
    if "readonly database" in text:  # also where the file may be written, but no write-ahead log be made beside it
        text = f"the file or its folder may only be read ({text}); jhpo.Study.load(..., read_only=True) writes nothing"
    if is_damage(error):
        text = f"the file is damaged ({text}); try `jhpo repair`"
    return text
