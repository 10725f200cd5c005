"""Everything that can be wrong with a configuration, reported together: what config_file.py finds, what the compiler of the rules
finds, and a proxy of the environment that cannot be used. For `tunerd check`; the daemon checks the same three when it loads.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tunerd.call import Form, SendAnyway
from tunerd.config import Config, Destination, Source, form_of_key
from tunerd.config.api_key import KeyUnusable, read_key
from tunerd.delivery.proxy import proxy_problems
from tunerd.loading.config_file import PartialConfig, read_file
from tunerd.mapping import compile_source, manifest_sources
from tunerd.yaml_location import ConfigError, Problem

_OF_THE_PRESET: Final = ("unknown name", "no rule for", "no agent_remote_identifier", "has no use without")
"""How problems begin that may only be there because the preset could not be read (or the groups of path_groups)."""

_CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
_ONLY_THERE: Final = f"{_CREDENTIALS} is not set here: systemd sets it for the service (LoadCredential=), so this was not checked"

SHOWN_CHARS: Final = 60
"""Of a pattern, in a warning."""


def check_file(path: Path, environ: Mapping[str, str]) -> Config:
    """The configuration, if `tunerd run` would take it. Raises ConfigError with every problem, those of the rules too."""
    reading = read_file(path, environ)
    problems = _of_the_rules(reading, environ)
    of_the_service = [problem for problem in reading.problems if problem.variable == _CREDENTIALS]
    others = [problem for problem in reading.problems if problem.variable != _CREDENTIALS]
    problems = [*others, *problems, *proxy_problems(reading.config, environ)]
    warnings = [replace(problem, message=_ONLY_THERE) for problem in of_the_service]
    if problems:
        raise ConfigError(problems)
    added = dict.fromkeys(map(str, warnings))
    return replace(reading.config, warnings=(*reading.config.warnings, *added))


def form_known(destination: Destination) -> Form | None:
    """The request form by the configuration or by the present key; None while there is no key."""
    if destination.form is not None:
        return destination.form
    try:
        return form_of_key(read_key(destination))
    except KeyUnusable:
        return None


def _of_the_rules(reading: PartialConfig, environ: Mapping[str, str]) -> list[Problem]:
    sources = reading.config.sources
    destinations = {destination.name: destination for destination in reading.config.destinations}
    wrong = {problem.path for problem in reading.problems}
    found: list[Problem] = []
    for path, source in zip(reading.paths, sources, strict=True):
        usable = _usable_part(source, path, wrong)
        if usable.preset is None and usable.call is None and usable.manifest is None:
            continue  # Nothing can be compiled; that is among the problems.
        destination = destinations.get(source.destination)
        try:
            compile_source(
                usable,
                destination,
                manifests=manifest_sources(sources),
                environ=environ,
                form=form_known(destination) if destination is not None else None,
                path=path,
            )
        except ConfigError as exc:
            in_doubt = wrong & {f"{path}.preset", f"{path}.path_groups", f"{path}.call", f"{path}.manifest"}
            found += [each for each in exc.problems if not (in_doubt and each.message.startswith(_OF_THE_PRESET))]
    return found


def _usable_part(source: Source, path: str, wrong: set[str]) -> Source:
    """The source with harmless values where its own were refused already, so that no problem is reported twice."""
    harmless: dict[str, Any] = {}
    if any(each.startswith((f"{path}.recording", f"{path}.on_missing")) for each in wrong):
        harmless |= {"recording": (), "on_missing": SendAnyway(url="https://example.com/")}
    if f"{path}.agent" in wrong:
        harmless["agent_remote_identifier"] = "unknown"
    harmless |= {name: None for name in ("preset", "path_groups", "call", "manifest") if f"{path}.{name}" in wrong}
    return replace(source, **harmless)
