"""Ports on the loopback address."""

import socket

HOST = "127.0.0.1"


def choose(asked: int, *preferred: int | None) -> int:
    """``asked`` unless it is 0; else the first of ``preferred`` that nobody listens on; else any free port."""
    if asked:
        return asked
    return next((port for port in preferred if port and is_free(port)), None) or any_free()


def is_free(port: int) -> bool:
    """Whether the port can be bound."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def any_free() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
