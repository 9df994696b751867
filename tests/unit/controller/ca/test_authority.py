import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.verification import PolicyBuilder, Store

from controller.ca.authority import (
    certificate_pem,
    key_pem,
    make_authority,
    read_authority,
    read_csr,
    trust_domain_of,
)
from meshapi.errors import HopliteError, InvalidError

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def csr(key=None, subject=()):
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, s) for s in subject])
    made = x509.CertificateSigningRequestBuilder().subject_name(name)
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("admin")]), critical=False)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_a_component_certificate_holds_our_name_and_the_csrs_key():
    authority = make_authority("test.local", NOW)
    request = read_csr(csr(subject=["root"]))
    uri = "spiffe://test.local/hoplite/agent/n1"
    made = authority.issue_component(request, uri, dt.timedelta(hours=24), NOW)
    san = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(n.value) for n in san] == [uri]
    assert list(made.subject) == []
    assert made.public_key() == request.public_key()
    assert made.not_valid_after_utc == NOW + dt.timedelta(hours=24)
    assert made.not_valid_before_utc < NOW
    trusted = PolicyBuilder().store(Store([authority.certificate])).time(NOW)
    verified = trusted.build_client_verifier().verify(made, [])
    assert verified.subjects is not None


def test_a_server_certificate_is_for_its_names_and_not_for_clients():
    authority = make_authority("test.local", NOW)
    key = ec.generate_private_key(ec.SECP256R1())
    made = authority.issue_server(key.public_key(), ["localhost", "::1", "10.0.0.1"], NOW)
    builder = PolicyBuilder().store(Store([authority.certificate])).time(NOW)
    builder.build_server_verifier(x509.DNSName("localhost")).verify(made, [])
    with pytest.raises(x509.verification.VerificationError):
        builder.build_client_verifier().verify(made, [])


def test_no_certificate_outlives_its_ca():
    authority = make_authority("test.local", NOW)
    late = authority.certificate.not_valid_after_utc - dt.timedelta(hours=1)
    made = authority.issue_component(read_csr(csr()), "spiffe://x", dt.timedelta(days=1), late)
    assert made.not_valid_after_utc == authority.certificate.not_valid_after_utc


def test_a_ca_survives_being_written_down():
    authority = make_authority("test.local", NOW)
    again = read_authority(authority.pem, key_pem(authority.key))
    assert again.certificate == authority.certificate
    assert trust_domain_of(again.certificate) == "test.local"
    other = make_authority("test.local", NOW)
    with pytest.raises(HopliteError, match="does not belong"):
        read_authority(authority.pem, key_pem(other.key))
    with pytest.raises(HopliteError, match="not a CA"):
        read_authority("x", key_pem(other.key))


def tampered():
    good = x509.load_pem_x509_csr(csr().encode()).public_bytes(serialization.Encoding.DER)
    bad = bytearray(good)
    bad[-3] ^= 1
    return x509.load_der_x509_csr(bytes(bad)).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (lambda: "", "not a PEM certificate request"),
        (lambda: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n", "not a PEM"),
        (lambda: csr(rsa.generate_private_key(65537, 2048)), "not P-256"),
        (lambda: csr(ec.generate_private_key(ec.SECP384R1())), "not P-256"),
        (lambda: certificate_pem(make_authority("t", NOW).certificate), "not a PEM"),
        (tampered, "signature does not match"),
        (lambda: "\ud800", "not a PEM"),
    ],
)
def test_a_bad_csr_is_refused(text, words):
    with pytest.raises(InvalidError, match=words):
        read_csr(text())
