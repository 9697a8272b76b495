"""TLS for tests: authorities and certificates made on the spot, and a proxy that speaks TLS in front of a plain server."""

import os
import select
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest


class Authority:
    """A certificate authority of its own, and a certificate of it for 127.0.0.1."""

    def __init__(self, folder: Path, name: str) -> None:
        if shutil.which("openssl") is None:
            if os.environ.get("CI") == "true":
                pytest.fail("no openssl on this machine")
            pytest.skip("no openssl on this machine")
        folder.mkdir()
        self.ca, self.certificate, self.key = folder / "ca.pem", folder / "server.pem", folder / "server.key"
        ca_key, request, extensions = folder / "ca.key", folder / "server.csr", folder / "server.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1\n")
        made = ["-newkey", "rsa:2048", "-nodes"]
        _openssl("req", "-x509", *made, "-keyout", ca_key, "-out", self.ca, "-days", "2", "-subj", f"/CN={name}")
        _openssl("req", *made, "-keyout", self.key, "-out", request, "-subj", "/CN=127.0.0.1")
        signed = ["-CA", self.ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2", "-extfile", extensions]
        _openssl("x509", "-req", "-in", request, *signed, "-out", self.certificate)


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


class TlsProxy:
    """Ends TLS on a free port of 127.0.0.1 and forwards what was inside to a plain server's port."""

    def __init__(self, port: int, authority: Authority) -> None:
        self._target = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(authority.certificate, authority.key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        self.served = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, ca: Path) -> str:
        return f"rediss://127.0.0.1:{self.port}/0?ssl_ca_certs={ca}"

    def close(self) -> None:
        self._listener.close()
        for one in self._sockets:
            _end(one)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            client = self._context.wrap_socket(plain, server_side=True)
        except OSError:
            # A client that refused the certificate.
            plain.close()
            return
        server = socket.create_connection(("127.0.0.1", self._target))
        self._sockets += [client, server]
        self.served += 1
        with suppress(OSError, ValueError):
            _forward(client, server)
        _end(client)
        _end(server)


def _forward(client: ssl.SSLSocket, server: socket.socket) -> None:
    # One thread for both directions: an SSL connection is not for two at once.
    while True:
        # What was decrypted already makes no socket readable.
        ready = [client] if client.pending() else select.select([client, server], [], [])[0]
        for source in ready:
            data = source.recv(65536)
            if not data:
                return
            (server if source is client else client).sendall(data)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
