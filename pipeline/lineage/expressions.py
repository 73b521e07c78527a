"""What a statement writes for each column, in the words of its file: a parser would give them back in its own."""

import re
import textwrap
from collections.abc import Iterator, Mapping

from sqlglot import Token, TokenType, tokenize

DIALECT = "duckdb"

_ENDS = {
    TokenType.COMMA,
    TokenType.FROM,
    TokenType.UNION,
    TokenType.EXCEPT,
    TokenType.INTERSECT,
    TokenType.R_PAREN,
}
"""What an item of a select list ends before."""


def expressions(text: str) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """(common table expression, column) -> its expressions, one per branch of a union; "" is the last select.

    Columns that come by a star are left out.
    """
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for table, item in _items(tokenize(text, dialect=DIALECT)):
        name = item[-1].text
        if len(item) > 2 and item[-2].token_type == TokenType.ALIAS:
            item = item[:-2]
        elif item[-1].token_type == TokenType.STAR or item[0].token_type == TokenType.STAR:
            continue
        written = _plain(text[item[0].start : item[-1].end + 1])
        found[table, name] = (*found.get((table, name), ()), written)
    return found


def _items(tokens: list[Token]) -> Iterator[tuple[str, list[Token]]]:
    """The name of the table and the tokens of one item of its select list, item by item."""
    depth, table, within = 0, "", False
    item: list[Token] = []
    for place, token in enumerate(tokens):
        kind = token.token_type
        outermost = depth == (1 if table else 0)
        if within and outermost and kind in _ENDS:
            yield table, item
            item, within = [], kind == TokenType.COMMA
        elif outermost and kind == TokenType.SELECT:
            within = True
        elif within and (item or kind != TokenType.DISTINCT):
            item.append(token)
        if kind == TokenType.L_PAREN:
            if not depth and tokens[place - 1].token_type == TokenType.ALIAS:
                table = tokens[place - 2].text
            depth += 1
        elif kind == TokenType.R_PAREN:
            depth -= 1
            table = table if depth else ""


def _plain(written: str) -> str:
    """Without comments, and as far to the left as it goes."""
    first, *others = [line for line in written.splitlines() if not re.match(r"\s*--", line)]
    return "\n".join([first, *textwrap.dedent("\n".join(others)).splitlines()])
