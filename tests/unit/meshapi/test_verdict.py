from meshapi.verdict import REASON_TEXT, Reason


def test_every_reason_has_a_text():
    assert set(REASON_TEXT) == set(Reason)
    assert len(set(REASON_TEXT.values())) == len(Reason)


def test_numbers_that_are_stored_elsewhere_do_not_move():
    stored = {
        "NOT_ENROLLED": 1,
        "NO_POLICY": 2,
        "POLICY_ALLOW": 3,
        "EGRESS_DENIED": 16,
        "INGRESS_DENIED": 17,
        "NO_BACKEND": 18,
        "PROXY_DIRECT": 19,
        "POLICY_PENDING": 20,
        "STATE_FULL": 21,
        "SERVICE_PORT_UNKNOWN": 22,
    }
    assert {name: Reason[name].value for name in stored} == stored
