"""Every statement does what the rows beside it say, and every statement has such rows."""

import pytest

from tests.support.unit_rows import Case, cases, run, statements

WITHOUT_ROWS = {"ingest/05_nothing"}
"""A table of one empty row: the statement that reads it has rows."""


@pytest.mark.parametrize("case", cases(), ids=str)
def test_given_rows_give_the_expected_ones(case: Case) -> None:
    result = run(case)
    assert result.found == result.expected
    assert result.found_types == result.expected_types, "the types of sql/columns.yml, or of the case"


def test_every_statement_has_rows() -> None:
    names = {f"{path.parent.name}/{path.stem}" for path in statements() if not path.with_suffix(".yml").exists()}
    assert names - WITHOUT_ROWS == set()
