"""Where a study lives: an append-only log of events with digests, in memory or in a database."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from jhpo.errors import invalid
from jhpo.storage.codec import Event as Event
from jhpo.storage.memory import MemoryLog as MemoryLog

if TYPE_CHECKING:
    from jhpo.storage.sql import SqlLog


def storage_url(storage: str | os.PathLike[str]) -> str:
    """A database URL from a URL or from the path of a SQLite file.

    >>> storage_url("study.db")
    'sqlite:///study.db'
    """
    if not isinstance(storage, (str, os.PathLike)):
        raise invalid("storage", "a path or a database URL", storage)
    text = os.fspath(storage)
    if not text or "\0" in text:
        raise invalid("storage", "a path or a database URL", text)
    return text if "://" in text else f"sqlite:///{text}"


def open_log(storage: str | os.PathLike[str] | None, *, create: bool, read_only: bool = False) -> MemoryLog | SqlLog:
    """The log at `storage`; None keeps it in memory.

    Raises:
        StorageError: see `jhpo.storage.sql.SqlLog`.
    """
    if storage is None:
        return MemoryLog()
    from jhpo.storage.sql import SqlLog  # SQLAlchemy is loaded only by those who store

    return SqlLog(storage_url(storage), create=create, read_only=read_only)
