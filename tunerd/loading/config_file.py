"""A configuration file and the environment -> Config, or every problem at once, each with file:line:column.

The steps are here, one line each; yaml_nodes.py reads YAML, environment.py fills in variables, reading.py reads
values; tuner.py and the *_section.py files the sections that need more. Rules are compiled by mapping/.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tunerd.config import Config, Delivery, FileRule, LedgerConfig, Log, ManifestRule, NearestRule, Secret, Source, UrlRule
from tunerd.config.models import SECTIONS, TopLevel
from tunerd.config.settings import keys_of, rule_keys
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.loading.environment import PathStep, substitute
from tunerd.loading.http_section import read_http
from tunerd.loading.ledger_section import LedgerPlace, instance_name, ledger_place, read_ledger
from tunerd.loading.reading import ConfigReader
from tunerd.loading.redact_section import read_redact
from tunerd.loading.source_section import read_sources
from tunerd.loading.tests_section import read_examples
from tunerd.loading.tuner import read_tuner
from tunerd.record import record
from tunerd.yaml_location import ConfigError, Problem, YamlLocation

MAX_FILE_BYTES: Final = 4 * 1024 * 1024

_IN_RULES: Final = re.compile(r"\benv\.([A-Za-z_][A-Za-z0-9_]*)")
_RULES_IN: Final[Mapping[str, frozenset[str]]] = {
    "sources": rule_keys(Source),
    "recording": frozenset[str]().union(*(rule_keys(kind) for kind in (UrlRule, ManifestRule, NearestRule, FileRule))),
    "redact": frozenset({"fields", "patterns"}),
    "audio": frozenset({"url"}),
    "publish": frozenset({"url"}),
}
_FIXED_UNTIL_RESTART: Final = ("ledger.url", "http.listen", "http.admin_listen", "log.format", "control_socket", "instance")


def load(path: Path, environ: Mapping[str, str], *, resolve_secrets: bool = True) -> Config:
    """Read and check a configuration; every default filled in, every path absolute.

    With `resolve_secrets=False` (for commands that only need the ledger) keys are neither read nor demanded. Raises
    ConfigError with all problems. What may be repaired later (a missing directory or key file) is in `warnings`.
    """
    return load_text(_read(path), str(path), environ, resolve_secrets=resolve_secrets)


def load_text(text: str, file: str, environ: Mapping[str, str], *, resolve_secrets: bool = True) -> Config:
    """As `load`, for text that is taken as the content of `file`."""
    reading = read_text(text, file, environ, resolve_secrets=resolve_secrets)
    if reading.problems:
        raise ConfigError(reading.problems)
    return reading.config


@record
class PartialConfig:
    """As much of a configuration as could be read, with its problems."""

    config: Config
    """Without what was wrong: while there are problems, it only serves to look for more of them."""
    problems: Sequence[Problem]
    paths: Sequence[str]
    """Of each of the config's sources: `sources[0]`."""


def read_file(path: Path, environ: Mapping[str, str], *, resolve_secrets: bool = True) -> PartialConfig:
    """As `load`, but hands back what could be read beside the problems. Raises ConfigError where nothing could be."""
    return read_text(_read(path), str(path), environ, resolve_secrets=resolve_secrets)


def place_of_ledger(path: Path, environ: Mapping[str, str]) -> LedgerPlace:
    """Where the ledger of this configuration file is, whatever is wrong with the file."""
    try:
        return ledger_place(_read(path), str(path), environ)
    except ConfigError:
        return LedgerPlace(path=None)


def variables_of(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that the configuration means outside its keys, with their values."""
    text = config.text.reveal()
    names = set(_IN_RULES.findall(text))
    substitute(parse_yaml(text, config.file), _Noted(environ, names), _left_alone_with_keys)
    return {name: environ[name] for name in names if name in environ}


class _Noted(dict[str, str]):
    """An environment that notes what it is asked for."""

    def __init__(self, environ: Mapping[str, str], names: set[str]) -> None:
        super().__init__(environ)
        self._names = names

    def get(self, name: str, default: Any = None) -> Any:
        self._names.add(name)
        return super().get(name, default)


def read_text(text: str, file: str, environ: Mapping[str, str], *, resolve_secrets: bool = True) -> PartialConfig:
    """As `read_file`, for text that is taken as the content of `file`."""
    base = os.path.dirname(os.path.abspath(file))
    substituted = substitute(parse_yaml(text, file), environ, _left_alone if resolve_secrets else _left_alone_with_keys)
    root, reader = substituted.root, ConfigReader(substituted, base, environ, resolve_secrets=resolve_secrets)
    if not isinstance(root.value, dict):
        raise ConfigError(
            [Problem(location=root.location, path="", message="the file holds no `sources:`; see config.example.yaml")]
        )
    nodes = reader.members(root, "", (*SECTIONS, *keys_of(TopLevel)))
    top = read_tuner(reader, nodes.get("tuner"), "tuner", root.location)
    redact = read_redact(reader, nodes.get("redact"), "redact")
    sources, destinations = read_sources(reader, nodes.get("sources"), root, top, redact)
    delivery = reader.whole(nodes.get("delivery"), "delivery", Delivery)
    top_level = reader.top_level(root, nodes)
    instance = instance_name(top_level.instance)
    ledger = read_ledger(reader, nodes.get("ledger"), root, instance)
    if not all(source.stores_documents for source in sources.values()):
        ledger = _without_documents(reader, ledger)
    if ledger.server is None:
        for at, source in sources.items():
            if source.shared:
                reader.warn(
                    reader.locations[f"{at}.shared"],
                    f"{at}.shared",
                    "has no effect on a ledger in a file; it is for postgresql://",
                )
    http = read_http(reader, nodes.get("http"))
    log = reader.whole(nodes.get("log"), "log", Log)
    tests = read_examples(reader, nodes.get("tests"), sources.values())
    config = Config(
        file=file,
        text=Secret(text),
        destinations=destinations.all(),
        sources=tuple(sources.values()),
        delivery=delivery,
        ledger=ledger,
        http=http,
        log=log,
        control_socket=top_level.control_socket,
        instance=instance,
        tests=tests,
        warnings=tuple(str(warning) for warning in reader.warnings),
        locations=reader.locations,
    )
    return PartialConfig(config=config, problems=tuple(reader.problems), paths=tuple(sources))


def refuse_changes(old: Config, new: Config) -> None:
    """Raise ConfigError if a reload would change what can only change by a restart."""
    problems = []
    was, wanted = (
        (
            (config.ledger.path, config.ledger.shown),
            config.http.listen,
            config.http.admin_listen,
            config.log.format,
            config.control_socket,
            "" if config.ledger.server is None else config.instance,  # the name of a host may change while tunerd runs
        )
        for config in (old, new)
    )
    for key, before, after in zip(_FIXED_UNTIL_RESTART, was, wanted, strict=True):
        if before != after:
            location = new.locations.get(key, YamlLocation(new.file, 1, 1))
            problems.append(Problem(location=location, path=key, message="cannot change by a reload; restart tunerd"))
    if problems:
        raise ConfigError(problems)


def _read(path: Path) -> str:
    def refused(message: str, line: int = 1, column: int = 1) -> ConfigError:
        return ConfigError([Problem(location=YamlLocation(str(path), line, column), path="", message=message)])

    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise refused("there is no such file; name yours with -c FILE or TUNERD_CONFIG") from None
    except PermissionError as exc:
        raise refused(f"cannot be read: {exc.strerror}; let this user read it, or run tunerd as one that may") from None
    except (OSError, ValueError) as exc:
        raise refused(f"cannot be read: {getattr(exc, 'strerror', None) or exc}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise refused(f"is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB; is it a configuration?")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        before = raw[: exc.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8")) + 1
        raise refused("is not UTF-8 from here on; save the file as UTF-8", before.count(b"\n") + 1, column) from None


def _left_alone(path: tuple[PathStep, ...]) -> bool:
    """Rules, tests and what `redact:` looks for: `${` means nothing there."""
    keys = [step for step in path if isinstance(step, str)]
    return keys == ["tests"] or (len(keys) > 1 and keys[-1] in _RULES_IN.get(keys[-2], ()))


def _left_alone_with_keys(path: tuple[PathStep, ...]) -> bool:
    """What only the one who sends reads: its variables (CREDENTIALS_DIRECTORY above all) are set for the service alone."""
    is_key = path[-2:-1] == ("tuner",) and path[-1] in ("api_key", "api_key_file", "ca_file")
    return is_key or path == ("http", "admin_token_file") or _left_alone(path)


def _without_documents(reader: ConfigReader, ledger: LedgerConfig) -> LedgerConfig:
    """Bodies of sent calls are kept for `tunerd diff`, which has no documents to compare with where they are redacted."""
    if (given := reader.locations.get("ledger.keep_documents")) is not None and ledger.keep_documents:
        reader.warn(given, "ledger.keep_documents", "is 0 while a source has `redact:` with `stored: true`")
    return replace(ledger, keep_documents=0)
