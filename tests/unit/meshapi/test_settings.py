from typing import Annotated, Literal

import msgspec
import pytest

from meshapi import settings
from meshapi.errors import ConfigError, HopliteError


class Sample(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    name: str
    max_size: int = 1
    on: bool = False
    ratio: float = 1.0
    names: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    sizes: dict[str, int] = {}
    level: Literal["point", "line"] = "line"
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None


def load(text="name: x", **environment):
    return settings.load(Sample, text, "f", environment, "P")


def test_file_and_environment():
    assert load() == Sample("x")
    assert load("name: x\nmaxSize: 2", P_MAX_SIZE="3").max_size == 3
    assert settings.variable("HOPLITE_AGENT", "stateDir") == "HOPLITE_AGENT_STATE_DIR"


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("P_NAME", "5", "name", "5"),
        ("P_ON", "TRUE", "on", True),
        ("P_ON", "0", "on", False),
        ("P_RATIO", "1e-3", "ratio", 0.001),
        ("P_RATIO", "2", "ratio", 2.0),
        ("P_NAMES", "a, b,", "names", ("a", "b")),
        ("P_NAMES", "", "names", ()),
        ("P_LABELS", "zone=a, x.org/y=b=c,", "labels", {"zone": "a", "x.org/y": "b=c"}),
        ("P_LABELS", "", "labels", {}),
        ("P_LABELS", "zone=", "labels", {"zone": ""}),
        ("P_SIZES", "peers=5,slots=6", "sizes", {"peers": 5, "slots": 6}),
        ("P_LEVEL", "point", "level", "point"),
        ("P_LIMIT", "7", "limit", 7),
    ],
)
def test_text_becomes_the_settings_type(variable, text, field, value):
    assert getattr(load(**{variable: text}), field) == value


@pytest.mark.parametrize(
    ("text", "environment", "words"),
    [
        ("", {}, "f or the environment: $.name: missing; set it in the file or as P_NAME"),
        ("name: x\nmaxSize: big", {}, "f:2: $.maxSize: expected `int`"),
        ("name: x\nnmae: y", {}, "f:2: $.nmae: unknown field; known settings are labels, level"),
        ("- x", {}, "f: not a mapping"),
        ("a: 1\n---\nb: 2", {}, "f: more than one document"),
        ("name: x", {"P_MAX_SIZE": "big"}, "P_MAX_SIZE: $.maxSize: expected `int`"),
        ("name: x", {"P_LABELS": "zone"}, "P_LABELS: $.labels: expected `object`"),
        ("name: x", {"P_SIZES": "a=b"}, "P_SIZES: $.sizes[...]: expected `int`"),
        ("name: x", {"P_ON": "yes"}, "P_ON: $.on: expected `bool`"),
        ("name: x", {"P_LIMIT": "0"}, "P_LIMIT: $.limit: expected `int` >= 1"),
        (
            "name: x",
            {"P_LEVEL": "x"},
            "P_LEVEL: $.level: invalid enum value 'x'; use point or line",
        ),
    ],
)
def test_what_is_wrong_is_named(text, environment, words):
    with pytest.raises(ConfigError) as caught:
        load(text, **environment)
    assert str(caught.value).startswith(words)


def test_wrong_yaml_is_refused_with_its_line():
    with pytest.raises(HopliteError, match="f:2: not YAML"):
        load("name: x\n: : :")
