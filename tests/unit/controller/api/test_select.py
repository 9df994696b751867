import pytest

from controller.api.select import check_parameters, parse_fields, parse_labels, selection
from controller.errors import BadRequestError
from meshapi.selectors import matches

LABELS = {"app": "web", "tier": "front", "example.org/x": ""}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app!=web", False),
        ("other!=web", True),
        ("app", True),
        ("nix", False),
        ("!nix", True),
        ("! app", False),
        ("app in (web,api)", True),
        ("app in (api)", False),
        ("app notin (api, dns),tier=front", True),
        ("nix notin (x)", True),
        ("app=web,tier=back", False),
        ("example.org/x=", True),
        (" app = web , tier in ( front ) ", True),
    ],
)
def test_label_selectors_mean_what_kubernetes_means(text, holds):
    assert matches(parse_labels(text.strip()), LABELS) is holds


@pytest.mark.parametrize("text", ["=x", "a in x", "a=b=c", "a,,b", "a in (x", "!a=b", "a b", "a>1"])
def test_what_cannot_be_read_is_refused(text):
    with pytest.raises(BadRequestError, match="labelSelector"):
        parse_labels(text)


def test_fields():
    assert parse_fields("metadata.name=x,metadata.namespace==y") == {"name": "x", "namespace": "y"}
    for text in ("spec.x=1", "metadata.name", "metadata.name!=x"):
        with pytest.raises(BadRequestError, match=r"use metadata\.name"):
            parse_fields(text)


def test_a_selection_of_another_namespace_is_refused(make):
    assert selection("shop", "", "metadata.namespace=shop").takes(make.service())
    assert not selection("", "", "metadata.name=x").takes(make.service())
    assert not selection("dev", "", "").takes(make.service())
    with pytest.raises(BadRequestError):
        selection("shop", "", "metadata.namespace=dev")


def test_unknown_and_repeated_parameters_are_refused():
    check_parameters({"a": "1"}, {"a", "b"}, 1)
    with pytest.raises(BadRequestError, match="'c' is not a parameter here; known are: a, b"):
        check_parameters({"c": "1"}, {"b", "a"}, 1)
    with pytest.raises(BadRequestError, match="twice"):
        check_parameters({"a": "1"}, {"a"}, 2)
