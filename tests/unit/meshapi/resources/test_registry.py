import pytest

from meshapi.errors import HopliteError
from meshapi.resources import KINDS, Key, by_word, find


def test_every_word_of_a_kind_names_it():
    for kind in KINDS:
        for word in (kind.name, kind.plural, kind.plural.upper(), *kind.short_names, *kind.aliases):
            assert by_word(word) is kind
        assert find(kind.api_version, kind.name) is kind


def test_no_word_names_two_kinds():
    words = [
        w.lower() for k in KINDS for w in {k.name.lower(), k.plural, *k.short_names, *k.aliases}
    ]
    assert len(words) == len(set(words))


def test_paths():
    service, node = by_word("svc"), by_word("node")
    assert service.path() == "/api/v1/services"
    assert service.path("shop", "web") == "/api/v1/namespaces/shop/services/web"
    assert node.path("", "n1") == "/apis/mesh.hoplite.io/v1alpha1/meshnodes/n1"
    assert (node.group, node.version) == ("mesh.hoplite.io", "v1alpha1")
    assert (service.group, service.version) == ("", "v1")


@pytest.mark.parametrize(("word", "hint"), [("servics", "services?"), ("zzz", "known are")])
def test_a_wrong_word_is_refused_with_a_hint(word, hint):
    with pytest.raises(HopliteError, match=hint.replace("?", r"\?")):
        by_word(word)


def test_a_wrong_version_is_corrected():
    with pytest.raises(HopliteError, match="write apiVersion: v1"):
        find("v2", "Service")


def test_keys_read_well():
    assert str(Key("Service", "shop", "web")) == "Service shop/web"
    assert str(Key("Namespace", "", "shop")) == "Namespace shop"
