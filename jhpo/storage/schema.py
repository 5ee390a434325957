"""The tables of a stored study, and the format number that guards them."""

from __future__ import annotations

import sqlalchemy as sa

# Raised with every change of the tables or the events; `sql.py` refuses what is newer than this.
FORMAT = 1
OLDEST = 1

metadata = sa.MetaData()

# SQLite stores a table in the order of its INTEGER PRIMARY KEY, without a second index
_COUNT = sa.BigInteger().with_variant(sa.Integer, "sqlite")

# One row per key: "application" (text "jhpo"), "format" (decimal), "head" (seq:chain of the last log row).
meta = sa.Table(
    "jhpo_meta",
    metadata,
    sa.Column("key", sa.String(32), primary_key=True),
    sa.Column("value", sa.String(128), nullable=False),
)

# The append-only log. Rows are never updated or deleted.
log = sa.Table(
    "jhpo_log",
    metadata,
    sa.Column("seq", _COUNT, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.LargeBinary(16), nullable=False),
    sa.Column("chain", sa.LargeBinary(16), nullable=False),
)

# Strategy states, a cache of the fold over the log: may be deleted at any time.
snapshot = sa.Table(
    "jhpo_snapshot",
    metadata,
    sa.Column("generation", _COUNT, primary_key=True, autoincrement=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.LargeBinary(16), nullable=False),
)

# Which processes work on trials, and when they last said so. No part of the log: it may be deleted at any time, and
# files of earlier versions get it when somebody works on them.
pulse = sa.Table(
    "jhpo_pulse",
    metadata,
    sa.Column("worker", sa.String(255), primary_key=True),
    sa.Column("time", sa.Float(53), nullable=False),  # seconds since the epoch
    sa.Column("period", sa.Float(53), nullable=False),  # seconds between two beats; 0 where none come
)
