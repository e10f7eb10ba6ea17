"""The studio's server: reachable only from this machine, with strict headers and only its files."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vae_runtime.errors import FileError
from vae_runtime.studio import serve
from vae_runtime.studio.build import POLICY
from vae_runtime.studio.serve import StudioServer

FILES = {"index.html": b"<!doctype html>", "engine/a.js": b"1", "bundle.zip": b"PK"}


@pytest.fixture
def server() -> Iterator[StudioServer]:
    with StudioServer(FILES) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def ask(
    server: StudioServer, path: str, method: str = "GET", host: str | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_it_listens_only_on_this_machine(server: StudioServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/"


@pytest.mark.parametrize("path", ["/", "/index.html", "/index.html?x=1", "/engine/a.js", "/none"])
def test_every_answer_has_the_strict_headers(server: StudioServer, path: str) -> None:
    answer, _ = ask(server, path)
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert answer.headers["Server"].strip() == "vae-run"


def test_the_policy_allows_its_own_scripts_and_wasm_only() -> None:
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"


def test_files_are_served_by_their_exact_path(server: StudioServer) -> None:
    answer, body = ask(server, "/engine/a.js")
    assert (answer.status, body) == (200, b"1")
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    answer, body = ask(server, "/", "HEAD")
    assert (answer.status, body, answer.headers["Content-Length"]) == (200, b"", "15")


@pytest.mark.parametrize(
    "path", ["/../etc/passwd", "/engine/../index.html", "/%2e%2e/x", "/engine/", "/engine"]
)
def test_other_paths_are_not_found(server: StudioServer, path: str) -> None:
    assert ask(server, path)[0].status == 404


def test_other_methods_are_refused(server: StudioServer) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(server, "/", method)[0].status == 501


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "evil.example:80", "[::1]:80"])
def test_a_request_for_another_host_name_is_refused(server: StudioServer, host: str) -> None:
    answer, body = ask(server, "/bundle.zip", host=host)
    assert answer.status == 421
    assert b"PK" not in body
    own = f"localhost:{server.server_port}"
    assert ask(server, "/bundle.zip", host=own)[1] == b"PK"


def test_a_port_in_use_is_reported_in_one_line(server: StudioServer) -> None:
    with pytest.raises(FileError, match=r"^port \d+: address already in use\. Use another --port"):
        StudioServer(FILES, server.server_port)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_the_command_serves_until_ctrl_c(studio_folder: Path) -> None:
    code = "from vae_runtime.cli import main; main()"
    command = [sys.executable, "-c", code, "studio", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.fullmatch(r"serving http://127\.0\.0\.1:(\d+)/ until Ctrl-C\n", line)
        assert found is not None, line
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=20)
        connection.request("GET", "/bundle.zip")
        assert connection.getresponse().read(4) == b"PK\x03\x04"
        connection.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == "error: interrupted\n"


def test_half_a_request_is_dropped(
    server: StudioServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve._Handler, "timeout", 0.2)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as half:
        half.sendall(b"GET / HT")
        assert half.recv(100) == b"", "the server closes the connection"
    assert ask(server, "/")[0].status == 200
    assert capfd.readouterr() == ("", "")


def test_a_browser_that_leaves_is_not_reported(
    server: StudioServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.files["large"] = bytes(32 << 20)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as gone:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.sendall(f"GET /large HTTP/1.1\r\nHost: {server.url[7:-1]}\r\n\r\n".encode())
            assert gone.recv(10) == b"HTTP/1.0 2"
    assert ask(server, "/")[0].status == 200
    assert capfd.readouterr() == ("", "")
