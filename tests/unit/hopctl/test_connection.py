import argparse

import pytest

from hopctl import connection
from hopctl.errors import UsageError

NO_FLAGS = {"server": None, "ca_file": None, "token_file": None}


def find(environment, **flags):
    return connection.find(argparse.Namespace(**{**NO_FLAGS, **flags}), environment)


def test_flags_win_over_files_and_files_over_text(tmp_path):
    for name in ("ca", "token", "other"):
        (tmp_path / name).write_text(f"{name}\n")
    environment = {
        "HOPLITE_SERVER": "https://a:1",
        "HOPLITE_CA": "text",
        "HOPLITE_CA_FILE": str(tmp_path / "ca"),
        "HOPLITE_TOKEN": "text",
    }
    found = find(environment)
    assert (found.server, found.ca, found.token) == ("https://a:1", "ca\n", "text")
    found = find(environment, server="https://b:2", token_file=str(tmp_path / "other"))
    assert (found.server, found.token) == ("https://b:2", "other")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "HOPLITE_SERVER: no controller is named; set it to https://host:port"),
        ({"HOPLITE_SERVER": "http://a"}, "HOPLITE_SERVER: 'http://a' is not an https URL"),
        ({"HOPLITE_SERVER": "https://a"}, "HOPLITE_CA_FILE: is not set; name a copy of"),
        ({"HOPLITE_SERVER": "https://a", "HOPLITE_CA": "x"}, "HOPLITE_TOKEN_FILE: is not set"),
        (
            {"HOPLITE_SERVER": "https://a", "HOPLITE_CA_FILE": "/nix"},
            "/nix: cannot be read: No such file or directory",
        ),
    ],
)
def test_what_is_missing_is_named(environment, words):
    with pytest.raises(UsageError) as caught:
        find(environment)
    assert str(caught.value).startswith(words)


def test_a_ca_that_is_none_is_refused():
    found = find({"HOPLITE_SERVER": "https://a", "HOPLITE_CA": "x", "HOPLITE_TOKEN": "y"})
    with pytest.raises(UsageError, match="not a PEM certificate"):
        found.client()
