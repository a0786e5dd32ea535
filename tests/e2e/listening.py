"""A server for as long as a test needs it."""

import contextlib
import socket
import threading


class Listener:
    """Gives each connection to serve(connection), one after the other, and closes them all in the end.

    Its thread has ended when close() returns: one that is left in accept(2) may go on with whatever socket has its
    descriptor's number next, and takes another server's connections.
    """

    def __init__(self, serve=lambda connection: None, path=None):
        self.held = []
        if path is None:
            self.socket = socket.create_server(("127.0.0.1", 0))
            self.port = self.socket.getsockname()[1]
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.bind(str(path))
            self.socket.listen()
        self._serve = serve
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection = self.socket.accept()[0]
                self.held.append(connection)
                with contextlib.suppress(OSError):
                    self._serve(connection)

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        for connection in self.held:
            # whoever is about to send there is not to wait for ever
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.socket.close()
        for connection in self.held:
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
