import socket

import pytest

from controller import listen
from controller.config import Endpoint
from meshapi.errors import ConfigError


def test_both_families_and_names_are_served():
    sockets = listen.opened([Endpoint("127.0.0.1", 0), Endpoint("::1", 0)])
    try:
        assert [s.family for s in sockets] == [socket.AF_INET, socket.AF_INET6]
        assert listen.name(sockets[1]).startswith("[::1]:")
        for listening in sockets:
            socket.create_connection(listening.getsockname()[:2], timeout=2).close()
    finally:
        for listening in sockets:
            listening.close()


def test_a_taken_port_is_refused_and_nothing_stays_open():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as free:
            other = free.getsockname()[1]
        endpoints = [Endpoint("127.0.0.1", other), Endpoint("127.0.0.1", port)]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: cannot listen: Address already"):
            listen.opened(endpoints)
        socket.create_server(("127.0.0.1", other)).close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_refused(host):
    with pytest.raises(ConfigError, match="configure an address of this machine"):
        listen.opened([Endpoint(host, 0)])


def test_sockets_meant_for_another_process_are_left_alone():
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "X": "y"}
    assert listen.inherited(environment, 2) == []
    assert environment == {"X": "y"}
    assert listen.inherited({}, 2) == []
