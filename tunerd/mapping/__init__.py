"""Rules, timeline and payload: a document in, a call or a recording (or a refusal in words) out. Pure.

source.py takes a document through the rules; expressions.py, rules.py and functions/ implement the rule language.
"""

from collections.abc import Mapping

from tunerd.call import Form
from tunerd.config import Config
from tunerd.mapping.manifest_facts import manifest_sources
from tunerd.mapping.source import SourceMapping, compile_source
from tunerd.yaml_location import ConfigError, Problem

__all__ = ["SourceMapping", "compile_source", "compile_sources", "manifest_sources"]


def compile_sources(
    config: Config, environ: Mapping[str, str], forms: Mapping[str, Form] | None = None
) -> dict[str, SourceMapping]:
    """The rules of every source by its name. Raises ConfigError with the problems of all sources.

    `forms`: by destination name, the request form where the caller knows it (a key file was read).
    """
    destinations = {destination.name: destination for destination in config.destinations}
    brings = manifest_sources(config.sources)
    compiled: dict[str, SourceMapping] = {}
    problems: list[Problem] = []
    for at, source in enumerate(config.sources):
        try:
            compiled[source.name] = compile_source(
                source,
                destinations.get(source.destination),
                manifests=brings,
                environ=environ,
                form=(forms or {}).get(source.destination),
                path=f"sources[{at}]",
            )
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return compiled
