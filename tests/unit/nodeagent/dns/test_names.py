"""Names between the zone's form and dnspython's."""

from __future__ import annotations

import dns.exception
import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.dns.names import labels_of, name_of


def test_a_name_has_its_labels_in_lower_case() -> None:
    assert labels_of(dns.name.from_text("WeB.Shop.")) == ("web", "shop")
    assert labels_of(dns.name.root) == ()
    assert name_of(("web", "shop")).to_text() == "web.shop."
    assert name_of(()) == dns.name.root


@given(labels=st.lists(st.binary(min_size=1, max_size=63), max_size=3))
def test_octets_of_all_kinds_go_there_and_back(labels: list[bytes]) -> None:
    name = dns.name.Name([*labels, b""])
    assert name_of(labels_of(name)) == name
    assert len(labels_of(name)) == len(labels)


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(("x" * 64,), id="label of 64 octets"),
        pytest.param(("a", "", "b"), id="empty label"),
        pytest.param(("x" * 63,) * 3 + ("x" * 62,), id="256 octets"),
    ],
)
def test_what_dns_cannot_carry_is_no_name(labels: tuple[str, ...]) -> None:
    with pytest.raises(dns.exception.DNSException):
        name_of(labels)


def test_a_name_of_255_octets_is_one() -> None:
    longest = name_of(("x" * 63,) * 3 + ("x" * 61,))
    assert len(longest.to_wire() or b"") == 255
