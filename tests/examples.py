"""How many examples a property is tried with: few in `make test`, ten times as many in `make thorough`."""

import os
from typing import Final

IS_THOROUGH: Final = "TUNERD_SLOW" in os.environ


def examples(usual: int) -> int:
    """`max_examples` of a test whose usual number is this."""
    return usual * 10 if IS_THOROUGH else usual
