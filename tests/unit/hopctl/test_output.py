from hopctl.output import Cell, Table, json_text, yaml_text


def test_a_table_is_plain_and_whole_for_pipes():
    table = Table(["NAME", "VALUE"], colour=False)
    text = table.render([[Cell("a" * 300, "good"), Cell("x")], [Cell("b"), Cell("[red]y[/red]")]])
    assert text.splitlines() == [
        f"{'NAME':<300}  VALUE",
        f"{'a' * 300}  x",
        f"{'b':<300}  [red]y[/red]",
    ]


def test_parts_of_a_table_keep_their_columns():
    table = Table(["NAME", "VALUE"], colour=False)
    table.render([[Cell("a" * 10), Cell("x")]])
    assert table.render([[Cell("b"), Cell("y")]]) == f"{'b':<10}  y\n"
    assert table.render([[Cell("c" * 12), Cell("z")]]) == f"{'c' * 12}  z\n"


def test_a_table_is_coloured_for_people():
    text = Table(["NAME"], colour=True).render([[Cell("ok", "good")], [Cell("no", "bad")]])
    assert "\x1b[32mok" in text
    assert "\x1b[31mno" in text


def test_documents_end_with_a_newline_and_keep_their_order():
    value = {"b": 1, "a": ["ä", None]}
    assert json_text(value) == '{\n  "b": 1,\n  "a": [\n    "ä",\n    null\n  ]\n}\n'
    assert yaml_text(value) == "b: 1\na:\n- ä\n- null\n"
