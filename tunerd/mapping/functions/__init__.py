"""The functions of the rule language: FUNCTIONS is the one table that expressions, documentation and `explain` read."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tunerd.mapping.functions import jmespath, numbers, tables, text, times, turns
from tunerd.mapping.functions.registry import UNKNOWN, Code, Context, Function, Nulls, Run

FUNCTIONS: Final[Mapping[str, Function]] = MappingProxyType(
    {
        **times.REGISTRY.view(),
        **numbers.REGISTRY.view(),
        **tables.REGISTRY.view(),
        **text.REGISTRY.view(),
        **turns.REGISTRY.view(),
        **jmespath.REGISTRY.view(),
    }
)
"""Every function by name, in the order of the documentation."""

__all__ = ["FUNCTIONS", "UNKNOWN", "Code", "Context", "Function", "Nulls", "Run"]
