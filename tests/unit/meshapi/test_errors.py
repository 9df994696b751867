from meshapi.errors import HopliteError, InvalidError, Problem


def test_an_error_is_one_line():
    assert str(HopliteError("what")) == "what"
    assert str(HopliteError("what", where="f:3")) == "f:3: what"
    assert str(HopliteError("what", where="f:3", fix="do this")) == "f:3: what; do this"


def test_an_invalid_object_tells_everything():
    error = InvalidError("Service a/b", [Problem("$.x", "bad", "good"), Problem("$.y", "worse")])
    assert str(error) == "Service a/b: $.x: bad; good; also $.y: worse"
