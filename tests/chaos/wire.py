"""A TCP proxy in front of a server that loses requests and replies, and cuts connections."""

import socket
import threading
from collections import Counter
from contextlib import suppress


class Wire:
    """Forwards 127.0.0.1 to a port. ``counts``: what was lost and cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._doomed: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_requests(self, number: int) -> None:
        """Of the next ``number`` script calls, none reaches the server; their connections break."""
        self._doom("requests lost", number)

    def lose_replies(self, number: int) -> None:
        """The next ``number`` script calls are executed, and their replies never arrive; their connections break."""
        self._doom("replies lost", number)

    def cut(self) -> None:
        """Breaks every connection."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            _end(pair)
        self.counts["connections cut"] += len(pairs)

    def calm(self) -> None:
        """Loses nothing more."""
        with self._lock:
            self._doomed.clear()

    def close(self) -> None:
        _end((self._listener,))
        self._listener.close()
        self.cut()

    def _doom(self, what: str, number: int) -> None:
        with self._lock:
            self._doomed[what] += number

    def _is_doomed(self, what: str) -> bool:
        with self._lock:
            if self._doomed[what] <= 0:
                return False
            self._doomed[what] -= 1
            self.counts[what] += 1
            return True

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target), 10)
            server.settimeout(None)
        except OSError:
            client.close()
            return
        pair = (client, server)
        for one in pair:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._pairs.add(pair)
        loses_reply = threading.Event()
        up = threading.Thread(target=self._forward_requests, args=(client, server, loses_reply), daemon=True)
        up.start()
        while data := _read(server):
            if loses_reply.is_set() or not _send(client, data):
                break
        _end(pair)
        up.join()
        with self._lock:
            self._pairs.discard(pair)
        for one in pair:
            one.close()

    def _forward_requests(self, client: socket.socket, server: socket.socket, loses_reply: threading.Event) -> None:
        while data := _read(client):
            if b"EVAL" in data:
                if self._is_doomed("requests lost"):
                    break
                if self._is_doomed("replies lost"):
                    loses_reply.set()
            if not _send(server, data):
                break
        _end((client,) if loses_reply.is_set() else (client, server))


def _read(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except OSError:
        return b""


def _send(connection: socket.socket, data: bytes) -> bool:
    try:
        connection.sendall(data)
    except OSError:
        return False
    return True


def _end(sockets: tuple[socket.socket, ...]) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
