import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from meshapi.identity import LAST
from meshapi.nodecontract import (
    IDENTITY_PREFIX4,
    IDENTITY_PREFIX6,
    PROXY_ADDRESS6,
    identity_address4,
    identity_address6,
)


@given(st.integers(0, LAST))
def test_an_identity_is_an_address_of_its_prefix(identity):
    four = ipaddress.ip_address(identity_address4(identity))
    six = ipaddress.ip_address(identity_address6(identity))
    assert four in ipaddress.ip_network(f"{IDENTITY_PREFIX4}/4")
    assert six in ipaddress.ip_network(f"{IDENTITY_PREFIX6}/96")
    assert int(four) & LAST == identity
    assert int(six) & 0xFFFFFFFF == identity
    assert six != ipaddress.ip_address(PROXY_ADDRESS6)
