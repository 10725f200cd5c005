"""The tables of docs/recordings.md show what happens in a ledger."""

import pytest

from tests.docs.fences import DOCS
from tests.docs.stories import Story, Table, tables

TABLES = list(tables(DOCS / "recordings.md"))


@pytest.mark.parametrize("table", TABLES, ids=str)
async def test_a_story_ends_as_it_is_told(table: Table) -> None:
    """After each line every call that the line names has the state that it says, and every call that was sent is named."""
    story = Story(table.strategies)
    for line in table.lines:
        told = await story.happens(line)
        for words in line.then:
            name, _, state = words.partition(" ")
            assert told.get(name) == state, line.where
        unsaid = {name for name, state in told.items() if state.startswith("goes")} - {words.split(" ")[0] for words in line.then}
        assert not unsaid, line.where


def test_the_stories_are_found() -> None:
    """The parser finds every table; a table that it misses would not be checked."""
    text = (DOCS / "recordings.md").read_text()
    assert len(TABLES) == text.count("| at | what comes | then |") > 8
