import pytest

from controller import access
from controller.access import ANONYMOUS, Caller, hash_token, identify
from meshapi.errors import ForbiddenError, UnauthorizedError

ADMIN = Caller("admin")
AGENT = Caller("node", "n1", "agent")
PROXY = Caller("node", "n1", "l7proxy")
HASHES = {hash_token("secret")}


def certificate(uri):
    return {"subjectAltName": (("DNS", "x"), ("URI", uri))}


def test_a_known_token_is_an_admins():
    assert identify("Bearer secret", None, HASHES, "t") == ADMIN
    assert identify("bearer  secret ", None, HASHES, "t") == ADMIN


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer ", "Basic secret", "secret", ""])
def test_a_bad_token_is_refused_even_beside_a_certificate(header):
    with pytest.raises(UnauthorizedError):
        identify(header, certificate("spiffe://t/hoplite/agent/n1"), HASHES, "t")


def test_a_certificate_says_component_and_node():
    assert identify(None, certificate("spiffe://t/hoplite/agent/n1"), HASHES, "t") == AGENT
    assert identify(None, certificate("spiffe://t/hoplite/l7proxy/n1"), HASHES, "t") == PROXY


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://other/hoplite/agent/n1",
        "spiffe://t/hoplite/admin/n1",
        "spiffe://t/ns/a/sa/b",
        "spiffe://t/hoplite/agent/n1\n",
        "spiffe://t/hoplite/agent/n1/x",
    ],
)
def test_another_name_is_nobody(uri):
    assert identify(None, certificate(uri), HASHES, "t") == ANONYMOUS
    assert identify(None, None, HASHES, "t") == ANONYMOUS
    assert identify(None, {}, HASHES, "t") == ANONYMOUS


def allowed(rule, caller, node="n1"):
    try:
        rule(caller, node)
    except UnauthorizedError:
        return 401
    except ForbiddenError:
        return 403
    return 200


@pytest.mark.parametrize(
    ("rule", "anonymous", "admin", "agent", "proxy", "other_node"),
    [
        (access.anyone, 200, 200, 200, 200, 200),
        (access.admin, 401, 200, 403, 403, 403),
        (access.agent, 401, 403, 200, 403, 403),
        (access.component, 401, 403, 200, 200, 403),
    ],
)
def test_who_may_do_what(rule, anonymous, admin, agent, proxy, other_node):
    assert allowed(rule, ANONYMOUS) == anonymous
    assert allowed(rule, ADMIN) == admin
    assert allowed(rule, AGENT) == agent
    assert allowed(rule, PROXY) == proxy
    assert allowed(rule, AGENT, "n2") == other_node
