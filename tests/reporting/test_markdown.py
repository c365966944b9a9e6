"""Names and values that may hold anything, in Markdown."""

from cdml_jax.reporting.markdown import markdown_table


def test_the_table_lines_up():
    table = markdown_table(["a|b", "n"], [["x", "1"], ["longer\nname", "12345"]], "lr")
    assert len({len(line) for line in table.splitlines()}) == 1
    assert "a\\|b" in table
