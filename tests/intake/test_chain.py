"""What a log is known by: the chain of hashes over its content."""

import random

from hypothesis import given
from hypothesis import strategies as st

from tunerd.intake.chain import BLOCK_BYTES, Chain, ChainState, head_hash


def _chain(content: bytes, *sizes: int) -> Chain:
    chain, at = Chain(), 0
    for size in (*sizes, len(content)):
        chain.feed(content[at : at + size])
        at += size
    return chain


@given(st.integers(1, 4 * BLOCK_BYTES), st.lists(st.integers(0, 2 * BLOCK_BYTES), max_size=5), st.integers(0, 4))
def test_the_chain_does_not_depend_on_how_it_was_fed(length: int, sizes: list[int], seed: int) -> None:
    """In one piece, in any pieces, or resumed at the stored state: the state is the same."""
    content = random.Random(seed).randbytes(length)
    state = _chain(content).state()
    assert _chain(content, *sizes).state() == state
    assert ChainState.of(state.stored(), length) == state
    resumed = Chain.resumed(state)
    resumed.feed(content[resumed.at :])
    assert resumed.state() == state


def test_a_difference_anywhere_shows() -> None:
    """Equal ends and an equal length do not make two logs one."""
    content = bytes(5 * BLOCK_BYTES + 77)
    states = {_chain(content).state().stored()}
    for at in (0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 5, 5 * BLOCK_BYTES, len(content) - 1):
        states.add(_chain(content[:at] + b"x" + content[at + 1 :]).state().stored())
    assert len(states) == 8


@given(st.integers(0, 3 * BLOCK_BYTES), st.integers(0, 3 * BLOCK_BYTES))
def test_a_hole_counts_as_the_zeros_that_it_reads_as(before: int, hole: int) -> None:
    """Of a sparse file nobody reads the holes, and its chain is that of the zeros."""
    chain = _chain(b"a" * before)
    chain.feed_zeros(hole)
    chain.feed(b"end\n")
    assert chain.state() == _chain(b"a" * before + bytes(hole) + b"end\n").state()


def test_the_head_stays_while_a_log_grows() -> None:
    """Known logs are looked up by it."""
    first = b'{"id": 1}\n'
    assert _chain(first).state().head == _chain(first + b"more\n" * 50_000).state().head == head_hash(first)
    assert _chain(first[:-1]).state().head == head_hash(first)
