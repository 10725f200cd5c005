"""docs/recordings.md: what its tables tell happens in a ledger."""

import pytest

from tests.docs.fences import DOCS
from tests.docs.stories import Story, Table, tables

TABLES = list(tables(DOCS / "recordings.md"))


@pytest.mark.parametrize("table", TABLES, ids=str)
async def test_a_story_ends_as_it_is_told(table: Table) -> None:
    """After each line every call that the line names stands as it says, and a call that went out is named."""
    story = Story(table.strategies)
    for line in table.lines:
        told = await story.happens(line)
        for words in line.then:
            name, _, state = words.partition(" ")
            assert told.get(name) == state, line.where
        unsaid = {name for name, state in told.items() if state.startswith("goes")} - {words.split(" ")[0] for words in line.then}
        assert not unsaid, line.where


def test_the_stories_are_found() -> None:
    """A table that nobody parses would be one that nobody checks."""
    text = (DOCS / "recordings.md").read_text()
    assert len(TABLES) == text.count("| at | what comes | then |") > 8
