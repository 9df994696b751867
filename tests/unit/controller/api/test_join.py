"""Labels of a node that joins, and joins again."""

import pytest
from msgspec.structs import replace

from controller.api.join import JOIN_LABELS, _member, joined
from meshapi.errors import InvalidError
from meshapi.resources import MeshNodeSpec


def member(**labels):
    return _member("n1", MeshNodeSpec(addresses=("192.0.2.1",)), labels)


def by_admin(node, **labels):
    """The node after an admin has set labels, or removed those that are None."""
    changed = {**node.metadata.labels, **labels}
    kept = {k: v for k, v in changed.items() if v is not None}
    return replace(node, metadata=replace(node.metadata, labels=kept))


def test_a_new_node_has_the_labels_it_comes_with():
    assert joined(None, member(zone="a")).metadata.labels == {"zone": "a"}
    assert member().metadata.annotations == {}


def test_a_node_that_joins_again_may_have_moved():
    again = joined(member(zone="a", rack="1"), member(zone="b"))
    assert again.metadata.labels == {"zone": "b"}
    assert joined(again, member()).metadata.labels == {}
    assert JOIN_LABELS not in joined(again, member()).metadata.annotations


def test_what_an_admin_has_set_stays():
    node = by_admin(member(zone="a"), team="blue")
    assert joined(node, member(zone="b", team="red")).metadata.labels == {
        "zone": "b",
        "team": "blue",
    }
    assert joined(node, member()).metadata.labels == {"team": "blue"}


def test_what_an_admin_has_changed_or_removed_stays_so():
    node = by_admin(member(zone="a", rack="1"), zone="c", rack=None)
    assert joined(node, member(zone="b", rack="1")).metadata.labels == {"zone": "c"}


def test_other_annotations_and_the_spec_are_kept_and_renewed():
    node = member(zone="a")
    notes = {**node.metadata.annotations, "note": "x"}
    node = replace(node, metadata=replace(node.metadata, annotations=notes))
    again = joined(node, _member("n1", MeshNodeSpec(addresses=("192.0.2.9",)), {}))
    assert again.metadata.annotations == {"note": "x"}
    assert again.spec.addresses == ("192.0.2.9",)


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', "{"])
def test_an_annotation_that_cannot_be_read_makes_every_label_an_admins(text):
    node = member(zone="a")
    node = replace(node, metadata=replace(node.metadata, annotations={JOIN_LABELS: text}))
    assert joined(node, member(zone="b", rack="1")).metadata.labels == {"zone": "a", "rack": "1"}


def test_wrong_labels_are_refused():
    with pytest.raises(InvalidError, match=r"\$\.metadata\.labels\['zone'\]"):
        member(zone="a b")
