"""docs/results.md is what the records say."""

from benchmarks import published, records, results
from spikeloom.methods.catalog import load_recipe


def test_the_page_is_made_from_the_records() -> None:
    results.write(check=True)


def test_the_tables_of_the_papers_agree_with_the_recipes() -> None:
    """A recipe that says what was published says the same as the table."""
    for row in published.rows():
        recipe = load_recipe(row.recipe, row.changes)
        told = recipe.published.get(recipe.protocol.name)
        if told is not None and set(row.changes) <= {"protocol=B"}:
            assert told == row.value, row


def test_no_record_names_a_path_and_a_is_no_lower_than_b() -> None:
    assert records.kept()
    for record in records.kept():
        text = (records.FOLDER / f"{record.name}.json").read_text()
        assert "/work" not in text and "/home" not in text and "root" not in text
        assert record.recipe.data.root is None
        assert record.accuracy_b is None or record.accuracy_b <= record.accuracy_a
