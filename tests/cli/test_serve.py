"""`jhpo serve`: pages that follow a search, from databases that stay as they are."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import socket
import sqlite3
import struct
import threading
from pathlib import Path

import pytest

import jhpo
from jhpo.cli.serve import Server
from jhpo.cli.shelf import Shelf
from jhpo.errors import InvalidArgument, StorageError
from jhpo.storage import open_log
from jhpo.storage.sql import SqlLog
from tests.report.browser import dumped, needs_browser
from tests.storage import postgres

SPACE = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})


def told(path, count: int = 12, strategy: str = "random") -> jhpo.Study:
    study = jhpo.Study(SPACE, strategy, path)
    for trial in study.ask(count):
        study.tell(trial, trial.params["x"])
    return study


class Client:
    """Asks a server: ``ask(path, Host=...) -> (status, headers, text)``."""

    def __init__(self, server: Server) -> None:
        self.address, self.place = server.address, (str(server.server_address[0]), server.server_address[1])

    def __call__(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection(*self.place, timeout=60)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()


@contextlib.contextmanager
def served(storage, host: str = "127.0.0.1"):
    with contextlib.closing(Shelf(str(storage))) as shelf, contextlib.closing(Server(shelf, host, 0)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Client(server)
        finally:
            server.shutdown()
            thread.join()


def test_a_page_follows_its_study_and_writes_nothing(tmp_path):
    told(tmp_path / "s.db").close()
    before = hashlib.sha256((tmp_path / "s.db").read_bytes()).hexdigest()
    with served(tmp_path / "s.db") as ask:
        status, headers, text = ask("/")
        assert status == 200 and headers["Cache-Control"] == "no-store" and 'id="live"' in text
        assert "default-src 'none'" in headers["Content-Security-Policy"] and "best of 12" in text
        first = ask("/state")[2]
        assert ask("/state")[2] == first and ask("/")[2] == text, "nothing changed"
        assert hashlib.sha256((tmp_path / "s.db").read_bytes()).hexdigest() == before
        with jhpo.Study.load(tmp_path / "s.db") as study:
            study.tell(study.ask(1), [0.5])
        assert ask("/state")[2] != first and "best of 13" in ask("/")[2]
        # replaced by another study, then deleted
        (tmp_path / "s.db").unlink()
        told(tmp_path / "s.db", 3).close()
        assert "best of 3" in ask("/")[2]
        (tmp_path / "s.db").unlink()
        status, _, text = ask("/")
        assert status == 503 and "there is no study at" in text and 'id="live"' in text


def test_a_folder_lists_its_studies(tmp_path):
    told(tmp_path / "a.db").close()
    told(tmp_path / "b & c.db", 5, "sobol").close()
    (tmp_path / "notes.txt").write_text("none")
    sqlite3.connect(tmp_path / "foreign.db").execute("CREATE TABLE t (a)").connection.close()
    damaged = bytearray((tmp_path / "a.db").read_bytes())
    damaged[100:] = b"x" * len(damaged[100:])
    (tmp_path / "z.db").write_bytes(damaged)
    with served(tmp_path) as ask:
        text = ask("/")[2]
        links = re.findall(r'href="(\?[^"]+)"', text)
        assert links == ["?study=a.db", "?study=b+%26+c.db", "?study=z.db"] and "foreign" not in text
        assert "malformed" in text or "damaged" in text or "not a database" in text
        page = ask("/" + links[1])[2]
        assert "best of 5" in page and 'href="./"' in page
        state = ask("/state")[2]
        told(tmp_path / "new.db", 2).close()
        assert ask("/state")[2] != state and "new.db" in ask("/")[2]
        for name in ("foreign.db", "notes.txt", "..%2Fa.db", "%2Fetc%2Fpasswd", "none.db"):
            assert ask(f"/?study={name}")[0] == 404


def test_requests_by_another_name_or_for_other_things_are_refused(tmp_path):
    told(tmp_path / "s.db").close()
    with served(tmp_path / "s.db") as ask:
        for host in ("localhost", "localhost:8080", "127.0.0.1:1", "[::1]:9000"):
            assert ask("/state", Host=host)[0] == 200, host
        for host in ("evil.example", "localhost.evil.example:8080", "", "[x"):
            assert ask("/state", Host=host)[0] in (400, 403), host
        assert ask("/etc/passwd")[0] == 404 and ask("/", "POST")[0] == 501
        status, headers, text = ask("/", "HEAD")
        assert status == 200 and int(headers["Content-Length"]) > 10_000 and text == ""
        assert "Python" not in headers["Server"]


@pytest.mark.parametrize(
    "sent", [b"", b"GET", b"GET / HTTP/1.1\r\n\r\n", b"GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n"]
)
def test_who_leaves_before_the_answer_leaves_no_traceback(tmp_path, capfd, sent):
    told(tmp_path / "s.db").close()
    with served(tmp_path / "s.db") as ask:
        for _ in range(4):
            with socket.create_connection(ask.place) as peer:
                peer.sendall(sent)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
        assert ask("/")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_wrong_calls_are_one_sentence(tmp_path):
    for storage, words in (
        (tmp_path / "none.db", "there is no study at"),
        (tmp_path, "there is no study in the folder"),
        (Path(__file__), "is not a database"),
    ):
        with pytest.raises(StorageError, match=words):
            Shelf(str(storage))
    told(tmp_path / "s.db").close()
    with contextlib.closing(Shelf(str(tmp_path / "s.db"))) as shelf:
        with contextlib.closing(Server(shelf, "127.0.0.1", 0)) as server:
            assert server.private and server.address.startswith("http://127.0.0.1:")
            with pytest.raises(InvalidArgument, match="--port: expected a free port"):
                Server(shelf, "127.0.0.1", server.server_address[1])
        with pytest.raises(InvalidArgument, match="--host: expected an address of this machine"):
            Server(shelf, "192.0.2.1", 0)
        with contextlib.closing(Server(shelf, "0.0.0.0", 0)) as everywhere:
            assert (
                not everywhere.private and everywhere.trusts("192.0.2.1:80") and not everywhere.trusts("evil.example")
            )


@needs_browser
@pytest.mark.slow
def test_a_browser_shows_the_news_without_loading_the_page_again(tmp_path, monkeypatch):
    told(tmp_path / "s.db").close()
    told_of, asked = Shelf.state, []

    def state(shelf: Shelf, name: str = "") -> str:
        asked.append(name)
        if len(asked) == 2:
            with jhpo.Study.load(tmp_path / "s.db") as study:
                study.tell(study.ask(1), [-1.5])
        return told_of(shelf, name)

    monkeypatch.setattr(Shelf, "state", state)
    with served(tmp_path / "s.db") as ask:
        asked.clear()
        text = dumped(ask.address, tmp_path / "profile", 9000)
    assert "The best of 13 successful trials is -1.5" in text and "live, as of" in text and len(asked) >= 3


_why = postgres.missing()


@pytest.mark.slow
@pytest.mark.skipif(_why is not None, reason=_why or "")
def test_a_server_database_is_read_without_its_password_shown():
    with postgres.running() as server:
        url = server.database()
        told(url).close()
        with served(url) as ask:
            texts = [ask("/")[2], ask("/state")[2]]
            assert "best of 12" in texts[0] and not any(postgres.PASSWORD in t or "tea" in t for t in texts)
        with contextlib.closing(open_log(url, create=False, read_only=True)) as log:
            assert isinstance(log, SqlLog)
            with pytest.raises(Exception, match="read-only"):
                log.connection.exec_driver_sql("DELETE FROM jhpo_log")
