import msgspec
import pytest

from meshapi import codec, wire
from meshapi.errors import InvalidError
from meshapi.flow import FlowCoverage, FlowQuery


@pytest.mark.parametrize(
    "message",
    [
        wire.FeedFrame(type="PUT", object={"kind": "x"}),
        wire.FeedFrame(type="DELETE", kind="Service", namespace="a", name="b"),
        wire.FeedFrame(type="REVISION", revision=7),
        wire.NodeReport(component="agent", revision=1, version="1", ready=True),
        wire.ChannelRequest(id="1", op="flows", query=FlowQuery(last=3)),
        wire.ChannelReply(id="1", done=True, coverage=FlowCoverage(node="n")),
        wire.EnforcementReply(revision=1, enforcing=2, present=3, waiting=("n",)),
        wire.ApplyRequest(objects=({"a": 1},), dry_run=True),
    ],
)
def test_a_message_survives_the_wire(message):
    text = msgspec.json.encode(message)
    assert msgspec.json.decode(text, type=type(message)) == message
    assert codec.convert(codec.encode(message), type(message), "x") == message


def test_an_unknown_field_is_refused():
    with pytest.raises(InvalidError, match=r"\$\.revison: unknown field"):
        codec.convert({"type": "REVISION", "revison": 1}, wire.FeedFrame, "feed")


def test_paths_are_below_our_group():
    assert wire.node_path("n1", "feed") == "/apis/mesh.hoplite.io/v1alpha1/meshnodes/n1/feed"
