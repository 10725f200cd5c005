"""What a figure has to reach, and whether it did: told beside it, never an exit code, because machines are noisy."""


def to_reach(what: str, reached: bool) -> str:
    """`to reach: 0.45, reached`; what stands in a line of the printed table."""
    return f"to reach: {what}, {'reached' if reached else '**not reached**'}"


def at_most(value: float, most: float) -> str:
    return to_reach(f"{most:g}", value <= most)


def at_least(value: float, least: float) -> str:
    return to_reach(f"{least:g}", value >= least)
