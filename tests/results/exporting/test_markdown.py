"""Read back by markdown-it, a CommonMark parser with GitHub's tables."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from results.exporting.markdown import _plain, render
from results.tables import show_table
from tests.results.conftest import OLMOE, WriteRun, ceilings, failed, measurement

PARSER = MarkdownIt("commonmark").enable("table")


def plain_text(token: Token) -> str:
    """What a reader sees of an inline token in which nothing is markup."""
    assert all(child.type == "text" for child in token.children or []), token.content
    return "".join(child.content for child in token.children or [])


def cells(document: str) -> list[list[str]]:
    """The rows of the only table."""
    tokens = PARSER.parse(document)
    assert sum(token.type == "table_open" for token in tokens) == 1
    rows: list[list[str]] = []
    for before, token in itertools.pairwise(tokens):
        rows += [[]] if before.type == "tr_open" else []
        if before.type in ("td_open", "th_open"):
            rows[-1].append(plain_text(token))
    return rows


def paragraphs(document: str) -> Iterator[str]:
    tokens = PARSER.parse(document)
    for before, token in itertools.pairwise(tokens):
        if before.type == "paragraph_open" and not token.content.startswith("<sub>"):
            yield plain_text(token)


def test_the_table_is_that_of_show_with_the_case_in_front(write_run: WriteRun) -> None:
    run_file = write_run(*ceilings(), measurement(), failed(target="ort:cpu"))
    heading, *rows = cells(render(run_file))
    table = show_table(run_file)
    assert heading == ["case", *(column.name for column in table.columns)]
    assert rows == [[OLMOE, *table.sections[0].rows[0]], ["", *table.sections[0].rows[1]]]


def test_notes_follow_with_their_numbers(write_run: WriteRun) -> None:
    said = list(paragraphs(render(write_run(measurement(), failed("wrong", "slot 3 | <b>expert</b> _5_")))))
    assert said[0] == "quick on torch:cpu, ort:cpu (Test CPU)"
    assert said[-1] == "[2] slot 3 | <b>expert</b> _5_"


@pytest.mark.parametrize(
    "text", ["a|b", "a\\|b", "`a`|b", "<script>", "*x* _y_ ~~z~~", "[x](y)", "&lt;", "$x$", "a\nb"]
)
def test_a_cell_shows_its_text_whatever_it_is(text: str) -> None:
    document = f"| heading |\n| --- |\n| {_plain(text)} |\n"
    assert cells(document)[1] == [" ".join(text.split())]


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"))))
def test_no_text_becomes_markup(text: str) -> None:
    document = f"| heading |\n| --- |\n| x{_plain(text)} |\n"
    assert " ".join(cells(document)[1][0].split()) == " ".join(f"x{' '.join(text.split())}".split())


def test_two_summaries_in_one_file_stay_apart(write_run: WriteRun) -> None:
    document = render(write_run(measurement()))
    assert sum(token.type == "table_open" for token in PARSER.parse(document + document)) == 2
