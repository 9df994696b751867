"""A node's public keys: what is refused, what is stored, and that nobody else can write them."""

import base64

import pytest
from msgspec.structs import replace

from controller import identitykeys
from controller.reports import Reports
from controller.status import look
from meshapi.resources import IdentityKey, Key

ONE = IdentityKey(epoch=1, public_key=base64.b64encode(b"1" * 32).decode())
TWO = IdentityKey(epoch=2, public_key=base64.b64encode(b"2" * 32).decode())


@pytest.fixture
def mesh(make):
    return make.state(make.node("n1", "192.0.2.1"), make.node("n2", "192.0.2.2"))


def stored(state, node, *keys):
    """The state after a node has reported these keys."""
    writes = list(identitykeys.changes(state, node, keys))
    return state.with_changes({w.key: w.new for w in writes})


def test_a_nodes_keys_are_stored_in_the_order_it_gave_them(mesh):
    after = stored(mesh, "n1", TWO, ONE)
    assert after.node("n1").status.identity_keys == (TWO, ONE)
    assert after.node("n2").status.identity_keys == ()


def test_what_says_nothing_new_is_not_written(mesh):
    after = stored(mesh, "n1", ONE)
    assert not list(identitykeys.changes(after, "n1", (ONE,)))
    assert list(identitykeys.changes(after, "n1", ()))


def test_a_node_that_is_gone_has_no_keys(mesh):
    assert not list(identitykeys.changes(mesh, "n3", (ONE,)))


def test_admins_see_them_and_cannot_write_them(make, mesh):
    after = stored(mesh, "n1", ONE)
    shown = look(after, Reports(), 0.0).show(after.get(Key("MeshNode", "", "n1")))
    assert shown.status.identity_keys == (ONE,)
    wanted = make.node("n1", "192.0.2.9")
    wanted = replace(wanted, status=replace(wanted.status, identity_keys=(TWO,)))
    admitted = make.state(wanted, base=after).node("n1")
    assert admitted.spec.addresses == ("192.0.2.9",)
    assert admitted.status.identity_keys == (ONE,)


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ((ONE, TWO, replace(ONE, epoch=3), replace(ONE, epoch=4)), "$.identityKeys"),
        ((ONE, replace(TWO, epoch=1)), "$.identityKeys[1].epoch"),
        ((replace(ONE, public_key="MTIz"),), "$.identityKeys[0].publicKey"),
        ((replace(ONE, public_key="*" * 44),), "$.identityKeys[0].publicKey"),
        ((replace(ONE, public_key="é"),), "$.identityKeys[0].publicKey"),
    ],
)
def test_keys_that_are_none_are_refused(keys, path):
    assert [p.path for p in identitykeys.problems(keys)] == [path]


def test_keys_in_order_are_fine():
    assert not list(identitykeys.problems((TWO, ONE, replace(ONE, epoch=3))))
