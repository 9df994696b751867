import pytest

from controller.api.flows import read_query
from meshapi.errors import InvalidError
from meshapi.flow import FlowQuery


def read(**parameters):
    return read_query(parameters, len(parameters))


def test_every_parameter_is_understood():
    assert read() == FlowQuery()
    query = read(
        since="1700000000.5", until="1700000001", source="shop/web", destination="shop/",
        verdict="DENY", direction="inbound", protocol="UDP", path="proxy", last="5",
    )  # fmt: skip
    assert query == FlowQuery(
        since=1700000000.5, until=1700000001.0, source="shop/web", destination="shop/",
        verdict="DENY", direction="inbound", protocol="UDP", path="proxy", last=5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("sinc", "1", "known are since, until, source"),
        ("since", "yesterday", "write seconds since the epoch"),
        ("since", "nan", "is not a time"),
        ("until", "inf", "is not a time"),
        ("since", "", "write seconds"),
        ("last", "0", "at least 1"),
        ("last", "1.5", "write a number of flows"),
        ("last", "1000000", "at most 100000"),
        ("verdict", "MAYBE", "use one of PASS, ALLOW, DENY, REDIRECT"),
        ("source", "web", "write NAMESPACE/NAME"),
        ("destination", "/x", "write NAMESPACE/NAME"),
        ("direction", "up", "outbound, inbound"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(name, value, words):
    with pytest.raises(InvalidError, match=words) as caught:
        read(**{name: value})
    assert caught.value.problems[0].path == name


def test_an_impossible_range_is_refused():
    with pytest.raises(InvalidError, match="since is later than until"):
        read(since="2", until="1")
    with pytest.raises(InvalidError, match="twice"):
        read_query({"last": "1"}, 2)
