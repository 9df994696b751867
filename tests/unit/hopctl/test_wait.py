from hopctl.wait import receipt
from meshapi.wire import EnforcementReply


def test_a_receipt_says_how_many_and_how_long():
    reply = EnforcementReply(revision=41, enforcing=100, present=101, waiting=("n1",))
    reached = [i / 100 for i in range(1, 101)]
    assert receipt(reply, reached) == (
        "100 of 101 nodes enforce revision 41 (p50 0.50 s, p99 0.99 s)"
    )
    nobody = EnforcementReply(revision=41, enforcing=0, present=0)
    assert receipt(nobody, []) == "0 of 0 nodes enforce revision 41"
