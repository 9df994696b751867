import pytest

from controller.api.patch import merge, strategic
from controller.errors import BadRequestError

KEYS = {"spec.ports": "port"}


@pytest.mark.parametrize(  # RFC 7396, appendix A
    ("value", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(value, patch, result):
    assert merge(value, patch) == result


def ports(*numbers):
    return {"spec": {"ports": [{"port": n, "protocol": "TCP"} for n in numbers]}}


def test_a_strategic_patch_merges_ports_by_number():
    patch = {
        "spec": {
            "$setElementOrder/ports": [{"port": 81}, {"port": 80}],
            "ports": [{"port": 81}, {"port": 80, "name": "http"}, {"$patch": "delete", "port": 82}],
        }
    }
    assert strategic(ports(80, 82), patch, KEYS) == {
        "spec": {"ports": [{"port": 81}, {"port": 80, "protocol": "TCP", "name": "http"}]}
    }


def test_other_lists_are_replaced_and_null_removes():
    value = {"spec": {"x": [1, 2], "y": 1}, "metadata": {"labels": {"a": "b"}}}
    patch = {"spec": {"x": [3], "y": None}, "metadata": {"labels": {"a": None}}}
    assert strategic(value, patch, KEYS) == {"spec": {"x": [3]}, "metadata": {"labels": {}}}
    assert strategic(value, {"spec": {"$patch": "replace", "z": 1}}, KEYS)["spec"] == {"z": 1}


@pytest.mark.parametrize(
    "ports_",
    [[{"port": 53}, {"port": 53}], ["x"], [{"name": "a"}]],
)
def test_what_cannot_be_merged_safely_is_refused(ports_):
    with pytest.raises(BadRequestError):
        strategic(ports(80), {"spec": {"ports": ports_}}, KEYS)
    with pytest.raises(BadRequestError, match="not supported"):
        strategic(ports(80), {"$retainKeys": []}, KEYS)
