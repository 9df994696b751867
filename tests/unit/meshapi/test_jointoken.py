import base64
import hashlib

import pytest

from meshapi.errors import HopliteError
from meshapi.jointoken import JoinToken, check_ca, fingerprint, parse

DER = b"certificate"
PEM = f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(DER).decode()}\n-----END CERTIFICATE-----\n"
TOKEN = JoinToken("0" * 16, "1" * 32, hashlib.sha256(DER).hexdigest())


def test_a_token_survives_being_pasted():
    assert parse(f"  {TOKEN}\n") == TOKEN
    assert str(TOKEN).startswith("hop1.")


@pytest.mark.parametrize(
    "text", ["", "hop1", str(TOKEN)[:-1], f"{TOKEN}0", f"x{TOKEN}", "hop2" + str(TOKEN)[4:]]
)
def test_anything_else_is_refused_without_repeating_it(text):
    with pytest.raises(HopliteError, match="not a join token") as caught:
        parse(text)
    assert not text or text not in str(caught.value)


def test_the_ca_is_pinned():
    assert fingerprint(PEM) == TOKEN.ca
    check_ca(TOKEN, PEM)
    other = PEM.replace(base64.b64encode(DER).decode(), base64.b64encode(b"other").decode())
    with pytest.raises(HopliteError, match="somebody may be in between"):
        check_ca(TOKEN, other)


@pytest.mark.parametrize("pem", ["", "junk", PEM + PEM, PEM.replace("Y2", "!!")])
def test_only_one_certificate_can_be_pinned(pem):
    with pytest.raises(HopliteError, match=r"^CA: "):
        check_ca(TOKEN, pem)


def test_the_secret_itself_is_not_what_is_stored():
    assert TOKEN.secret.encode() not in TOKEN.secret_hash
    assert len(TOKEN.secret_hash) == 32
