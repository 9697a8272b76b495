"""A TCP proxy on 127.0.0.1 that can lose a reply: the server has done the work, the client never hears of it."""

import socket
import threading
from contextlib import suppress


class Proxy:
    """Forwards to a port. ``lose_after``: of the next ``losses`` requests that hold these bytes, the reply is cut off.

    While ``holds`` is set, replies to such requests wait until it is cleared.
    """

    def __init__(self, port: int, lose_after: bytes) -> None:
        self._target, self._marker = port, lose_after
        self.losses = 0
        self.lost = 0
        self.holds = False
        self._released = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def release(self) -> None:
        """Lets the held replies go."""
        self.holds = False
        self._released.set()

    def lead_to(self, port: int) -> None:
        """Cuts every connection; new ones lead to another server."""
        self._target = port
        for one in self._sockets:
            _end(one)

    def close(self) -> None:
        self._listener.close()
        for one in self._sockets:
            _end(one)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                # As if nobody listened here either.
                client.close()
                continue
            self._sockets += [client, server]
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        is_doomed, is_held = threading.Event(), threading.Event()

        def up() -> None:
            while data := _read(client):
                if self.holds and self._marker in data:
                    is_held.set()
                if self.losses and self._marker in data:
                    self.losses -= 1
                    self.lost += 1
                    is_doomed.set()
                try:
                    server.sendall(data)
                except OSError:
                    break
            _end(server)

        threading.Thread(target=up, daemon=True).start()
        while data := _read(server):
            if is_doomed.is_set():
                break
            if is_held.is_set():
                self._released.wait(60)
            try:
                client.sendall(data)
            except OSError:
                break
        _end(client)
        _end(server)


def _read(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except OSError:
        return b""


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
