"""Manifests of every kind, made from its types: right in shape, mostly wrong in content."""

from typing import Any

import msgspec.inspect as types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshapi import codec
from meshapi.errors import InvalidError
from meshapi.resources import KINDS

WORDS = ("a", "web", "*", "a*", "10.0.0.0/8", "::1", "None", "80", "spiffe://a", "", "a/b", "\n")
TEXTS = st.sampled_from(WORDS) | st.text(max_size=5)


def shaped(info: types.Type) -> st.SearchStrategy[Any]:
    """Values that fit a type, now and then ones that do not fit its bounds."""
    match info:
        case types.StructType():
            required = {f.encode_name: shaped(f.type) for f in info.fields if f.required}
            optional = {f.encode_name: shaped(f.type) for f in info.fields if not f.required}
            return st.fixed_dictionaries(required, optional=optional)
        case types.VarTupleType() | types.ListType():
            return st.lists(shaped(info.item_type), max_size=3)
        case types.DictType():
            return st.dictionaries(TEXTS, TEXTS, max_size=2)
        case types.UnionType():
            return st.one_of([shaped(t) for t in info.types])
        case types.LiteralType():
            return st.sampled_from(info.values)
        case types.IntType():
            return st.sampled_from([0, 1, 80, 443, 65535, 65536, -1])
        case types.BoolType():
            return st.booleans()
        case types.NoneType():
            return st.none()
        case _:
            return TEXTS


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_manifest_is_refused_or_survives_the_wire(kind):
    spec = next(f.type for f in types.type_info(kind.type).fields if f.name == "spec")
    seen = {"refused": 0, "taken": 0}

    @given(shaped(spec), st.dictionaries(TEXTS, TEXTS, max_size=1))
    @settings(max_examples=150, deadline=None)
    def fuzz(value, annotations):
        metadata = {"name": "x", "annotations": annotations}
        manifest = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": metadata | ({"namespace": "shop"} if kind.namespaced else {}),
            "spec": value,
        }
        try:
            resource = codec.decode(manifest)
        except InvalidError as error:
            seen["refused"] += 1
            assert all(p.path.startswith("$") and p.what for p in error.problems)
            assert "\n" not in str(error)
        else:
            seen["taken"] += 1
            assert codec.decode_json(codec.encode_json(resource)) == resource

    fuzz()
    assert sum(seen.values()) > 50
