"""Storage of studies: an append-only log of events with digests, in memory or in a database."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from jhpo.errors import StorageError, invalid
from jhpo.storage.codec import Entry as Entry
from jhpo.storage.log import EventLog as EventLog
from jhpo.storage.memory import MemoryLog as MemoryLog

if TYPE_CHECKING:
    import sqlalchemy as sa


def storage_url(storage: str | os.PathLike[str]) -> sa.URL:
    """A database URL from a URL or from the path of a SQLite file; a string is a URL if it contains ``://``.

    >>> str(storage_url("study.db")), storage_url("a?b=1%25.db").database
    ('sqlite:///study.db', 'a?b=1%25.db')
    """
    import sqlalchemy as sa  # late: not needed in memory

    if not isinstance(storage, (str, os.PathLike)):
        raise invalid("storage", "a path or a database URL", storage)
    text = os.fspath(storage)
    if not text or "\0" in text:
        raise invalid("storage", "a path or a database URL", text)
    if isinstance(storage, str) and "://" in text:
        try:
            url = sa.make_url(text)
        except (sa.exc.SQLAlchemyError, ValueError) as error:  # a port that is no number
            bare = re.sub(r"(://[^:/]*):.*@", r"\1:***@", text)
            raise StorageError(f"storage: expected a path or a database URL, got {bare!r}") from error
        if url.get_backend_name() not in ("sqlite", "postgresql"):
            wanted = "a path, sqlite:///PATH or postgresql://USER@HOST/DATABASE"
            raise StorageError(f"storage: expected {wanted}, got {url.render_as_string()!r}")
        return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url
    return sa.URL.create("sqlite", database=text)


def without_password(storage: str | os.PathLike[str]) -> str:
    """A path or a database URL for messages and pages.

    >>> without_password("postgresql://me:secret@host/studies"), without_password("study.db")
    ('postgresql+psycopg://me:***@host/studies', 'study.db')
    """
    text = os.fspath(storage)
    return storage_url(text).render_as_string() if "://" in text else text


def open_log(storage: str | os.PathLike[str] | None, *, create: bool, read_only: bool = False) -> EventLog:
    """The log at `storage`, in memory if None.

    Raises:
        StorageError: see `jhpo.storage.sql.SqlLog`.
    """
    if storage is None:
        return MemoryLog()
    from jhpo.storage.database import sqlite_path  # late: SQLAlchemy is not needed in memory
    from jhpo.storage.reading import SqliteReader
    from jhpo.storage.sql import SqlLog

    url = storage_url(storage)
    if read_only and sqlite_path(url) is not None:
        return SqliteReader(url)
    return SqlLog(url, create=create, read_only=read_only)
