"""Ports on the loopback address."""

import socket

from pipeline.services.ports import HOST, any_free, choose, is_free


def test_what_is_asked_for_is_taken_as_it_is() -> None:
    assert choose(12345, 8080) == 12345


def test_the_first_free_one_of_the_preferred() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        busy = taken.getsockname()[1]
        free = any_free()
        assert not is_free(busy)
        assert choose(0, None, 0, busy, free) == free
        assert choose(0, busy) not in (0, busy)
