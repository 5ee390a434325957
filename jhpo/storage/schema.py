"""The tables of a stored study, and the format number."""

from __future__ import annotations

import sqlalchemy as sa

# Incremented with every change of the tables or the events; `sql.py` refuses newer formats.
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

# Strategy states, a cache that may be deleted at any time.
snapshot = sa.Table(
    "jhpo_snapshot",
    metadata,
    sa.Column("generation", _COUNT, primary_key=True, autoincrement=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.LargeBinary(16), nullable=False),
)

# Heartbeats of the processes that work on trials. It may be deleted at any time, and is created in files of earlier
# versions when a worker opens them.
pulse = sa.Table(
    "jhpo_pulse",
    metadata,
    sa.Column("worker", sa.String(255), primary_key=True),
    sa.Column("time", sa.Float(53), nullable=False),  # seconds since the epoch
    sa.Column("period", sa.Float(53), nullable=False),  # seconds between heartbeats; 0 if there are none
)
