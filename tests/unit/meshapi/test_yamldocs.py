import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshapi.errors import HopliteError
from meshapi.yamldocs import load

TEXT = """\
a:
  b:
  - x
  - c.d/e: {f: 1}
---
# nothing

---
g: [1,
  2]
"""


@pytest.mark.parametrize(
    ("document", "path", "line"),
    [
        (0, "$", 1),
        (0, "$.a", 2),
        (0, "$.a.b[1]", 4),
        (0, "$.a.b[1]['c.d/e']", 4),
        (0, "$.a.b[7]", 3),
        (0, "$.nix.nix", 1),
        (1, "$.g[1]", 10),
    ],
)
def test_a_path_leads_to_its_line(document, path, line):
    assert load(TEXT, "f")[document].where(path) == f"f:{line}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2", "f:2: key 'a' stands there twice (first on line 1)"),
        ("a:\n  - {x: 1, x: 2}", "f:2: key 'x' stands there twice"),
        ("a: [1", "f:2: not YAML"),
        ("a:\n\t- b", "f:2: not YAML"),
        ("a: b: c", "f:1: not YAML"),
        ("!!python/object/apply:os.system [x]", "f:1: not YAML"),
        ("? [1]\n: 2", "f:1: not YAML"),
        ("a: 2020-13-45", "f: not YAML: month must be in 1..12"),
        ("\x00", "f: not YAML: unacceptable character"),
        ("*nix", "f:1: not YAML"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(text, words):
    with pytest.raises(HopliteError) as caught:
        load(text, "f")
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_documents_that_are_empty_are_left_out():
    assert load("", "f") == []
    assert load("---\n---\n# x\n", "f") == []


@given(st.text())
def test_nothing_but_refusals_comes_of_nonsense(text):
    try:
        load(text, "f")
    except HopliteError as error:
        assert "\n" not in str(error)
