import pytest

from meshapi.errors import HopliteError
from meshapi.manifests import parse
from meshapi.resources import key_of

WEB = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"


def test_every_document_is_typed_and_placed():
    found = parse(f"{WEB}---\n---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: a}}\n", "f")
    assert [str(key_of(m.resource)) for m in found] == ["Service default/web", "Namespace a"]
    other = parse(WEB, "f", default_namespace="shop")
    assert str(key_of(other[0].resource)) == "Service shop/web"


def test_a_list_is_taken_apart_and_its_items_keep_their_lines():
    text = "kind: List\nitems:\n- " + WEB.replace("\n", "\n  ").rstrip() + "\n"
    found = parse(text, "f")
    assert found[0].where("$.spec.ports[0].port") == "f:6"
    assert found[0].where("$") == "f:3"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (WEB + "---\n" + WEB, "f:6: Service default/web stands there twice (first at f:1)"),
        (WEB.replace("80", "0"), "f:4: Service default/web: $.spec.ports[0].port"),
        (WEB.replace("spec:", "spc:"), "f:4: Service default/web: $.spc: unknown field"),
        ("kind: List\nitems:\n- a\n", "f:3: manifest: $: expected an object"),
        ("kind: List\nitems: {}\n", "f:1: List: $.apiVersion: missing"),
        ("apiVersion: v1\nkind: Service\n", "f:1: Service: $.metadata: missing"),
        ("just text", "f:1: manifest: $: expected an object"),
    ],
)
def test_a_refusal_names_file_and_line(text, words):
    with pytest.raises(HopliteError) as caught:
        parse(text, "f")
    assert str(caught.value).startswith(words)


def test_json_is_yaml_too():
    text = '{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}'
    assert str(key_of(parse(text, "f")[0].resource)) == "Namespace a"
