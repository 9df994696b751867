import pytest

from meshapi.resources import LabelSelector, LabelSelectorRequirement
from meshapi.selectors import contains, matches

LABELS = {"app": "web", "tier": "front"}


@pytest.mark.parametrize(
    ("key", "operator", "values", "holds"),
    [
        ("app", "In", ("web", "api"), True),
        ("app", "In", ("api",), False),
        ("nix", "In", ("x",), False),
        ("app", "NotIn", ("api",), True),
        ("app", "NotIn", ("web",), False),
        ("nix", "NotIn", ("x",), True),
        ("app", "Exists", (), True),
        ("nix", "Exists", (), False),
        ("nix", "DoesNotExist", (), True),
        ("app", "DoesNotExist", (), False),
    ],
)
def test_operators(key, operator, values, holds):
    requirement = LabelSelectorRequirement(key=key, operator=operator, values=values)
    assert matches(LabelSelector(match_expressions=(requirement,)), LABELS) is holds
    both = LabelSelector(match_labels={"app": "web"}, match_expressions=(requirement,))
    assert matches(both, LABELS) is holds


def test_an_empty_selector_matches_everything():
    assert matches(LabelSelector(), {})
    assert contains({}, {})
    assert not contains({}, {"a": ""})
