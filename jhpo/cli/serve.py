"""The server of `jhpo serve`: pages of stored studies on a local address, updated while searches run."""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from jhpo.errors import InvalidArgument, JhpoError
from jhpo.version import __version__

if TYPE_CHECKING:
    from jhpo.cli.shelf import Shelf

# pages load nothing, talk to their own server alone, and stand in no other page
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    """Serves a `jhpo.cli.shelf.Shelf`; `close` ends it.

    Args:
        shelf: the studies.
        host: address to listen on.
        port: 0 for any that is free.

    Raises:
        InvalidArgument: the port is taken, or there is no such address here.
    """

    daemon_threads = True

    def __init__(self, shelf: Shelf, host: str, port: int) -> None:
        self.shelf, self.host = shelf, host
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self.address_family = found[0][0]
            super().__init__((host, port), _Handler)
        except (socket.gaierror, UnicodeError) as error:
            raise InvalidArgument(f"--host: expected an address of this machine, got {host!r}") from error
        except PermissionError as error:
            raise InvalidArgument(f"--port: expected a port above 1023, got {port} (it needs rights)") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InvalidArgument(
                    f"--port: expected a free port (0 finds one), got {port}, which is taken"
                ) from error
            raise InvalidArgument(f"--host: expected an address of this machine, got {host!r}") from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves before its answer is no error of ours; others are printed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def address(self) -> str:
        """What to type into a browser."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_address[1]}/"

    @property
    def private(self) -> bool:
        """Whether this machine alone can reach it."""
        return ipaddress.ip_address(str(self.server_address[0])).is_loopback

    def trusts(self, name: str) -> bool:
        """Whether a request may name the server so.

        A page from elsewhere whose name was made to point here would read the study; names other than our own are
        refused, numbers cannot be bent like that.
        """
        bare = urlsplit(f"//{name}").hostname or ""
        try:
            return bool(ipaddress.ip_address(bare))
        except ValueError:
            return bare in ("localhost", self.host.lower(), socket.gethostname().lower())

    def close(self) -> None:
        """Releases the port."""
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = f"jhpo/{__version__}", ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """``/`` is a page, ``/state`` changes when it does; ``?study=NAME`` one study of a folder."""
        try:
            if not self.server.trusts(self.headers.get("Host", "")):
                self._send(HTTPStatus.FORBIDDEN, f"this server is called {self.server.address}")
                return
        except ValueError:
            self._send(HTTPStatus.BAD_REQUEST, "the Host header is no address")
            return
        place = urlsplit(self.path)
        if place.path not in ("/", "/state"):
            self._send(HTTPStatus.NOT_FOUND, "there is no such page")
            return
        self._answer(place.path == "/", parse_qs(place.query).get("study", [""])[0])

    do_HEAD = do_GET

    def _answer(self, page: bool, name: str) -> None:
        shelf = self.server.shelf
        if name not in ("", *shelf.names()):
            self._send(HTTPStatus.NOT_FOUND, f"there is no study {name!r} here")
            return
        try:
            self._send(HTTPStatus.OK, shelf.page(name) if page else shelf.state(name), page)
        except JhpoError as error:
            text = shelf.broken(name, error) if page else str(error)
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, text, page)

    def _send(self, status: HTTPStatus, text: str, page: bool = False) -> None:
        body = text.encode("utf-8", "backslashreplace")
        self.send_response(status)
        self.send_header("Content-Type", f"text/{'html' if page else 'plain'}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for header, value in _HEADERS.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: pages ask every two seconds."""
