"""A PostgreSQL server for tests: its own folder, a free port, an ordinary user, a password."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PASSWORD = "tea for two"  # with a space, as URLs quote it
_numbers = itertools.count()


def programs() -> Path | None:
    """The folder of the server's programs: Debian keeps it off the path."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def missing() -> str | None:
    """Why there can be no server here; None if there can."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "needs psycopg: pip install 'jhpo[postgresql]'"
    if programs() is None:
        return "needs a PostgreSQL server: apt-get install postgresql"
    return None if _user() or os.getuid() else "needs an ordinary user, as root starts no PostgreSQL server"


def _user() -> str | None:
    """The user that runs the server, if we are root."""
    there = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in there), None) if os.getuid() == 0 else None


class Server:
    """A running server; `stop` and `start` make it go away and come back."""

    def __init__(self, folder: Path) -> None:
        found = programs()
        assert found is not None
        self._programs, self.folder, self._user = found, folder, _user()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if self._user:
            shutil.chown(folder, self._user)
            shutil.chown(secret, self._user)
        folder.chmod(0o700)
        options = ["-U", "jhpo", "-A", "scram-sha-256", "--pwfile", str(secret), "--no-sync", "-E", "UTF8"]
        self._call("initdb", "-D", str(folder / "data"), *options)
        self.start()

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(command, user=self._user, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c max_connections=60"
        log = str(self.folder / "log")
        self._call("pg_ctl", "-D", str(self.folder / "data"), "-l", log, "-w", "-o", settings, "start")

    def stop(self) -> None:
        """Stop the server at once, as a crash would."""
        self._call("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", "immediate", "stop")

    def url(self, database: str, password: str = PASSWORD) -> str:
        """The URL of a database."""
        quoted = password.replace(" ", "%20")
        return f"postgresql://jhpo:{quoted}@127.0.0.1:{self.port}/{database}"

    def ask(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Rows of a statement, run outside of a transaction."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            done = connection.execute(statement)  # type: ignore[arg-type]
            return done.fetchall() if done.description else []

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"study{next(_numbers)}"
        self.ask(f"CREATE DATABASE {name}")
        return self.url(name)

    def hang_up(self, url: str) -> int:
        """Cut every connection to a database, as a lost network does; returns their number."""
        name = url.rpartition("/")[2]
        cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        return len(self.ask(cut))


class Databases:
    """Stands in for a folder of SQLite files: each name in it is a database of its own."""

    def __init__(self, server: Server) -> None:
        self._server, self._urls = server, dict[str, str]()

    def __truediv__(self, name: str) -> str:
        if name not in self._urls:
            self._urls[name] = self._server.database()
        return self._urls[name]

    def iterdir(self) -> Iterator[Path]:
        """No files."""
        return iter(())


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="jhpo-postgres-", ignore_cleanup_errors=True) as folder:
        server = Server(Path(folder))
        try:
            yield server
        finally:
            with contextlib.suppress(AssertionError):  # it may be stopped
                server.stop()
            time.sleep(0.05)
