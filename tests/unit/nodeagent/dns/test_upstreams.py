"""Which resolvers are asked: addresses, and files that change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meshapi.endpoint import Endpoint
from nodeagent.dns.upstreams import Upstreams, name_servers

US = Endpoint("169.254.77.1", 53)


def texts(upstreams: Upstreams) -> list[str]:
    return [str(endpoint) for endpoint in upstreams.current()]


def test_addresses_and_files_keep_their_order_and_stand_once(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 192.0.2.2\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n")
    found = Upstreams(["192.0.2.1:5353", "192.0.2.2", str(file)], [])
    assert texts(found) == [
        "192.0.2.1:5353",
        "192.0.2.2:53",
        "192.0.2.1:53",
        "[2001:db8::1]:53",
    ]
    assert texts(Upstreams([], [])) == []


def test_we_are_not_our_own_upstream(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 169.254.77.1\nnameserver 192.0.2.1\n")
    assert texts(Upstreams([str(file), "169.254.77.1:5353"], [US])) == [
        "192.0.2.1:53",
        "169.254.77.1:5353",
    ]


def test_our_own_answers_are_believed_and_those_of_our_upstreams() -> None:
    assert Upstreams(["192.0.2.1:5353"], [US]).believed() == (
        ("169.254.77.1", 53),
        ("192.0.2.1", 5353),
    )


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    found = Upstreams([str(file)], [])
    assert texts(found) == []
    file.write_text("nameserver 192.0.2.1\n")
    assert texts(found) == ["192.0.2.1:53"]
    (tmp_path / "new").write_text("nameserver 192.0.2.2\n")  # of the same size
    os.utime(tmp_path / "new", ns=(file.stat().st_mtime_ns, file.stat().st_mtime_ns))
    (tmp_path / "new").rename(file)
    assert texts(found) == ["192.0.2.2:53"]


def test_a_file_that_is_gone_goes_on_counting_and_is_missed_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 192.0.2.1\n")
    found = Upstreams([str(file)], [])
    assert texts(found) == ["192.0.2.1:53"]
    file.unlink()
    assert [texts(found) for _ in range(3)] == [["192.0.2.1:53"]] * 3
    assert [r.message for r in caplog.records] == ["cannot read upstreams"]
    file.write_text("nameserver 192.0.2.3\n")
    assert texts(found) == ["192.0.2.3:53"]


def test_the_lines_of_a_resolv_conf(caplog: pytest.LogCaptureFixture) -> None:
    text = (
        "# nameserver 192.0.2.9\n; nameserver 192.0.2.9\nsearch example.org\n\n"
        "nameserver\t192.0.2.1  # trailing\n nameserver 192.0.2.2\nnameserver\n"
        "nameserver ns.example.org\nNameServer 192.0.2.9\nnameserver fe80::1%lo\n\xff\0\n"
    )
    found = [e.address for e in name_servers(text, "resolv.conf")]
    assert found == ["192.0.2.1", "192.0.2.2", "fe80::1%lo"]
    (warning,) = caplog.records
    assert warning.__dict__["where"] == "resolv.conf:8"
