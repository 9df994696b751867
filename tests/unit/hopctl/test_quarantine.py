"""What ``hopctl quarantine`` makes of its arguments."""

import pytest
from msgspec.structs import replace

from hopctl.errors import UsageError
from hopctl.quarantine import peer, quarantine, said
from meshapi.resources.checks import check
from meshapi.resources.containment import AllowedPeer
from tests.unit.hopctl.test_main import hopctl

PROBE = AllowedPeer(namespace="ops", workload="probe")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("ops/probe", PROBE),
        ("10.0.0.0/8", AllowedPeer(cidr="10.0.0.0/8")),
        ("10.0.0.1", AllowedPeer(cidr="10.0.0.1")),
        ("fd00::/8", AllowedPeer(cidr="fd00::/8")),
    ],
)
def test_a_peer_is_a_workload_or_a_block(text, meant):
    assert peer(text) == meant


@pytest.mark.parametrize("text", ["", "probe", "/probe", "ops/", "a/b/c", "10.0.0.0/99/1"])
def test_what_is_neither_is_refused(text):
    with pytest.raises(UsageError, match="names no workload"):
        peer(text)


def test_a_new_quarantine_is_named_after_its_workload():
    made = quarantine(None, "shop", "web-1", (PROBE,), "odd")
    assert (made.metadata.namespace, made.metadata.name) == ("shop", "web-1")
    assert (made.spec.workload, made.spec.allow_from, made.spec.reason) == (
        "web-1",
        (PROBE,),
        "odd",
    )
    assert check(made) == []


def test_one_that_is_there_is_changed():
    there = quarantine(None, "shop", "web-1", (PROBE,), "odd")
    there = replace(there, metadata=replace(there.metadata, name="other", resource_version="7"))
    stricter = quarantine(there, "shop", "web-1", (), None)
    assert (stricter.spec.allow_from, stricter.spec.reason) == ((), "odd")
    assert stricter.metadata == there.metadata
    assert quarantine(there, "shop", "web-1", (PROBE,), None).spec == there.spec
    assert quarantine(there, "shop", "web-1", (), "").spec.reason == ""


def test_what_was_done_is_said_in_one_line():
    closed = quarantine(None, "shop", "web-1", (), None)
    assert said(closed, "created") == "shop/web-1 is quarantined: nothing goes to it or from it"
    let_in = quarantine(None, "shop", "web-1", (PROBE, AllowedPeer(cidr="::/0")), None)
    assert said(let_in, "unchanged") == (
        "shop/web-1 is quarantined already: only ops/probe, ::/0 may connect to it"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["web-1"], "NAMESPACE/WORKLOAD: 'web-1' names no workload; write NAMESPACE/WORKLOAD"),
        (["Shop/web-1"], "Shop/web-1: 'Shop' is not a namespace's name"),
        (["shop/web_1"], "shop/web_1: 'web_1' is not a valid name"),
        (["shop/web-1", "--allow-from", "x"], "--allow-from: 'x' names no workload"),
        (
            ["shop/web-1", "--allow-from", "ops/probe", "--allow-from", "10.0.0.1/8"],
            "--allow-from 10.0.0.1/8: 10.0.0.1/8 is a part of 10.0.0.0/8",
        ),
        (["shop/web-1", "--lift", "--reason", ""], "--lift: with --allow-from or --reason"),
        (["shop/web-1", "--lift", "--allow-from", "a/b"], "--lift: with --allow-from or --reason"),
    ],
)
def test_wrong_usage_is_one_line_and_needs_no_controller(arguments, words):
    finished = hopctl("quarantine", *arguments)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert words in finished.stderr
    assert len(finished.stderr.splitlines()) == 1
