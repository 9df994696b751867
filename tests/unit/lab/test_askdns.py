from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import api, askdns
from lab.bringup import _silent_ports

ASKED = askdns.question(7, "shop.example")


def reply(number: int, answers: int) -> bytes:
    record = struct.pack("!HHHIH4B", 0xC00C, 1, 1, 60, 4, 192, 0, 2, 53)
    return struct.pack("!6H", number, 0x8180, 1, answers, 0, 0) + ASKED[12:] + record * answers


def test_a_question_is_rfc_1035() -> None:
    assert ASKED == (b"\0\7\1\0\0\1\0\0\0\0\0\0" + b"\4shop\7example\0" + b"\0\1\0\1")


def test_the_address_of_an_answer() -> None:
    assert askdns.answer(7, ASKED, reply(7, 1)) == "192.0.2.53"


@pytest.mark.parametrize("wrong", [reply(8, 1), reply(7, 0), reply(7, 1)[:-8]])
def test_no_address(wrong: bytes) -> None:
    assert askdns.answer(7, ASKED, wrong) == ""


@pytest.mark.root
def test_a_real_server(bare_lab: Callable[[str], api.Lab]) -> None:
    lab = bare_lab(
        "{apiVersion: lab.hoplite.io/v1alpha1, kind: Lab, spec: {nodes: [{name: n, workloads: "
        "[{name: server, ports: [{port: 53, protocol: UDP}]}, {name: client}]}]}}"
    )
    address = lab.workload("n/default/server").address4
    command = ["dnsmasq", "-k", "-C", "/dev/null", "--pid-file=", "-R", "-h", "--user=root"]
    server = lab.popen("n/default/server", [*command, "--address=/shop.example/192.0.2.53"])
    while _silent_ports(lab.workload("n/default/server")):
        assert server.poll() is None, server.stdout
    ask = ["python3", str(Path(askdns.__file__)), address, "shop.example"]
    result = lab.exec("n/default/client", ask)
    assert result.stdout == f"shop.example is 192.0.2.53, says {address}\n", result.stderr
    server.terminate()
    server.communicate()
    refused = lab.exec("n/default/client", [*ask[:2], "10.244.1.250", "shop.example"])
    assert (refused.returncode, refused.stdout) == (1, "")
