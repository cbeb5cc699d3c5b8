# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that can be cut: what goes through it is held back, in both directions, until it is healed."""

import selectors
import socket
import threading

CHUNK = 1 << 16
LOOK_AGAIN = 0.05


class Proxy:
    """Listens on a port of its own and forwards to host:port. While cut, connections stay open and nothing passes."""

    def __init__(self, target: str):
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._cut = self._closed = False
        self._peer: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="proxy")
        self._thread.start()

    def cut(self):
        self._cut = True

    def heal(self):
        self._cut = False

    def close(self):
        self._closed = True
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _run(self):
        while not self._closed:
            ready = self._selector.select(LOOK_AGAIN)
            if self._cut:
                threading.Event().wait(LOOK_AGAIN)
                continue
            for key, _ in ready:
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj in self._peer:
                    self._forward(key.fileobj)
        for one in [*self._peer, self._listener]:
            one.close()

    def _accept(self):
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(self._target, timeout=1)
        except OSError:
            client.close()
            return
        for one, other in ((client, server), (server, client)):
            one.setblocking(True)
            self._peer[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, one: socket.socket):
        other = self._peer[one]
        try:
            data = one.recv(CHUNK)
            if data:
                other.sendall(data)
                return
        except OSError:
            pass
        for end in (one, other):
            self._selector.unregister(end)
            del self._peer[end]
            end.close()
