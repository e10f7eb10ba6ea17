"""Serve a studio on 127.0.0.1 from a fixed set of files in memory."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any

from ..errors import FileError, describe_os_error
from .build import PAGE, POLICY

HOST = "127.0.0.1"
_TIMEOUT_S = 10  # for a browser to finish sending its request, or to take the next bytes
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".zip": "application/zip",
}
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class _Handler(BaseHTTPRequestHandler):
    """Handler for GET and HEAD requests that serves the server's own files by exact path."""

    timeout = _TIMEOUT_S
    server_version = "vae-run"
    sys_version = ""

    def do_GET(self) -> None:
        """Send the requested file, or status 404 if there is no such file."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Send the headers of a file."""
        self._answer(body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing, so that only this project's messages appear on the terminal."""

    def _answer(self, *, body: bool) -> None:
        server = self.server
        assert isinstance(server, StudioServer)
        # If other host names were accepted, a page of another site could read ours (DNS rebinding).
        known = {f"{name}:{server.server_port}" for name in (HOST, "localhost")}
        if self.headers.get("Host") not in known:
            self.send_error(421)
            return
        path = self.path.partition("?")[0].removeprefix("/") or PAGE
        raw = server.files.get(path)
        if raw is None:
            self.send_error(404)
            return
        self.send_response(200)
        kind = _TYPES.get(PurePosixPath(path).suffix, "application/octet-stream")
        for name, value in {"Content-Type": kind, "Content-Length": str(len(raw))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(raw)

    def end_headers(self) -> None:
        """Send the same strict headers with every answer."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()


class StudioServer(ThreadingHTTPServer):
    """HTTP server that serves `files` by URL path until it is shut down."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], port: int = 0) -> None:
        """Listen on `port`; 0 means any free port.

        Raises:
            FileError: the port cannot be used, for example because it is taken.
        """
        self.files = files
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            reason = describe_os_error(error)
            raise FileError(f"port {port}: {reason}. Use another --port.") from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore connections that were closed or time out; report all other errors."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{HOST}:{self.server_port}/"
