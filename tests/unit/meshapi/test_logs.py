import logging

import msgspec

from meshapi.logs import JsonFormatter


def line(**extra):
    record = logging.LogRecord("x.y", logging.WARNING, "f", 1, "hello %s", ("world",), None)
    vars(record).update(extra)
    return msgspec.json.decode(JsonFormatter().format(record))


def test_a_line_has_stable_keys():
    found = line(node="n1", path=object)
    assert list(found)[:4] == ["time", "level", "logger", "message"]
    assert (found["level"], found["message"], found["node"]) == ("warning", "hello world", "n1")


def test_an_exception_is_one_line():
    try:
        raise ValueError("bad\nthing")
    except ValueError as error:
        found = line(exc_info=(type(error), error, error.__traceback__))
    assert "ValueError: bad" in found["exception"]
