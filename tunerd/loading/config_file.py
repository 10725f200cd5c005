"""A configuration file and the environment -> Config, or every problem at once, each with file:line:column.

The steps stand here, one line each; yaml_nodes.py reads YAML, environment.py fills in variables, reading.py reads
values; tuner.py and the *_section.py files the sections that need more. Rules are compiled by mapping/.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tunerd.config import Config, Delivery, Http, LedgerConfig, Log, Secret
from tunerd.config.models import SECTIONS
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.loading.environment import Step, substitute
from tunerd.loading.ledger_section import LedgerPlace, ledger_place, read_ledger
from tunerd.loading.reading import ConfigReader
from tunerd.loading.redact_section import read_redact
from tunerd.loading.source_section import read_sources
from tunerd.loading.tests_section import read_examples
from tunerd.loading.tuner import read_tuner
from tunerd.places import ConfigError, Node, Place, Problem

MAX_FILE_BYTES: Final = 4 * 1024 * 1024

_IN_RULES: Final = re.compile(r"\benv\.([A-Za-z_][A-Za-z0-9_]*)")
_FIXED_UNTIL_RESTART: Final = ("ledger.url", "http.listen", "log.format")


def load(path: Path, environ: Mapping[str, str], *, resolve_secrets: bool = True) -> Config:
    """Read and check a configuration; every default filled in, every path absolute.

    With `resolve_secrets=False` (for commands that only need the ledger) keys are neither read nor demanded. Raises
    ConfigError with all problems. What may heal by itself (a missing directory or key file) is in `warnings`.
    """
    return load_text(_read(path), str(path), environ, resolve_secrets=resolve_secrets)


def load_text(text: str, file: str, environ: Mapping[str, str], *, resolve_secrets: bool = True) -> Config:
    """As `load`, for text that stands for the content of `file`."""
    reading = read_text(text, file, environ, resolve_secrets=resolve_secrets)
    if reading.problems:
        raise ConfigError(reading.problems)
    return reading.config


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialConfig:
    """As much of a configuration as could be read, with its problems."""

    config: Config
    """Not to be used while there are problems, but to look for more of them: what was wrong is left out of it."""
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
    """As `read_file`, for text that stands for the content of `file`."""
    base = os.path.dirname(os.path.abspath(file))
    substituted = substitute(parse_yaml(text, file), environ, _left_alone if resolve_secrets else _left_alone_with_keys)
    root, reader = substituted.root, ConfigReader(substituted)
    if not isinstance(root.value, dict):
        raise ConfigError([Problem(place=root.place, path="", message="the file holds no `sources:`; see config.example.yaml")])
    nodes = reader.members(root, "", SECTIONS)
    top = read_tuner(reader, nodes.get("tuner"), "tuner", root.place, base, resolve_secrets=resolve_secrets)
    redact = read_redact(reader, nodes.get("redact"), "redact")
    sources, destinations = read_sources(
        reader, nodes.get("sources"), root, top, environ, base, redact, resolve_secrets=resolve_secrets
    )
    delivery = reader.whole(nodes.get("delivery"), "delivery", Delivery)
    ledger = read_ledger(reader, nodes.get("ledger"), root)
    if not all(source.stores_documents for source in sources.values()):
        ledger = _without_documents(reader, ledger)
    http = _http(reader, nodes.get("http"))
    log = reader.whole(nodes.get("log"), "log", Log)
    tests = read_examples(reader, nodes.get("tests"), "tests", base, sources.values())
    config = Config(
        file=file,
        text=Secret(text),
        destinations=destinations.all(),
        sources=tuple(sources.values()),
        delivery=delivery,
        ledger=ledger,
        http=http,
        log=log,
        tests=tests,
        warnings=tuple(str(warning) for warning in reader.warnings),
        places=reader.places,
    )
    return PartialConfig(config=config, problems=tuple(reader.problems), paths=tuple(sources))


def refuse_changes(old: Config, new: Config) -> None:
    """Raise ConfigError if a reload would change what can only change by a restart."""
    problems = []
    was, wanted = ((config.ledger.path, config.http.listen, config.log.format) for config in (old, new))
    for key, before, after in zip(_FIXED_UNTIL_RESTART, was, wanted, strict=True):
        if before != after:
            place = new.places.get(key, Place(new.file, 1, 1))
            problems.append(Problem(place=place, path=key, message="cannot change by a reload; restart tunerd"))
    if problems:
        raise ConfigError(problems)


def _read(path: Path) -> str:
    def refused(message: str, line: int = 1, column: int = 1) -> ConfigError:
        return ConfigError([Problem(place=Place(str(path), line, column), path="", message=message)])

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


def _left_alone(path: tuple[Step, ...]) -> bool:
    """Rules and tests: `${` means nothing there."""
    match path:
        case ("tests",) | ("sources", int(), "agent" | "gather" | "call" | "manifest"):
            return True
        case ("redact", "fields" | "patterns") | ("sources", int(), "redact", "fields" | "patterns"):
            return True
        case ("sources", int(), "recording", int(), "url" | "key" | "expires_at"):
            return True
        case ("sources", int(), "recording", "url" | "key" | "expires_at"):
            return True
    return False


def _left_alone_with_keys(path: tuple[Step, ...]) -> bool:
    """What only the one who sends reads: its variables (CREDENTIALS_DIRECTORY above all) are set for the service alone."""
    match path:
        case ("tuner", "api_key" | "api_key_file" | "ca_file"):
            return True
        case ("sources", int(), "tuner", "api_key" | "api_key_file" | "ca_file"):
            return True
    return _left_alone(path)


def _without_documents(reader: ConfigReader, ledger: LedgerConfig) -> LedgerConfig:
    """Bodies of sent calls are kept for `tunerd diff`, which has no documents to compare with where they are redacted."""
    if (given := reader.places.get("ledger.keep_documents")) is not None and ledger.keep_documents:
        reader.warn(given, "ledger.keep_documents", "is 0 while a source has `redact:` with `stored: true`")
    return replace(ledger, keep_documents=0)


def _http(reader: ConfigReader, node: Node | None) -> Http:
    values, nodes = reader.section(node, "http", Http)
    hosts = _hosts(reader, nodes["hosts"], values["hosts"]) if "hosts" in values else ()
    listen = nodes.get("listen")
    if listen is None or reader.is_broken(listen):
        return Http(hosts=hosts)
    if listen.value is None or listen.value in ("", "off", "none"):
        return Http(listen="", hosts=hosts)
    address = listen_address(listen.value) if isinstance(listen.value, str) else None
    if address is None:
        shown = reader.shown(listen)
        hint = f"; write 127.0.0.1:{listen.value}" if isinstance(listen.value, int) else ""
        reader.problem(listen, "http.listen", f"takes host:port, like 127.0.0.1:9464, or null for none, not {shown}{hint}")
        return Http(hosts=hosts)
    return Http(listen=address, hosts=hosts)


def _hosts(reader: ConfigReader, node: Node, given: tuple[str, ...]) -> tuple[str, ...]:
    names = [host_name(text) for text in given]
    if None in names:
        reader.problem(node, "http.hosts", "takes host names without scheme and port, like [tunerd.internal]")
    return tuple(name for name in names if name is not None)


def host_name(text: str) -> str | None:
    """The name of a host in lower case, without a dot at its end; None: it is none."""
    name = text.strip().rstrip(".").lower()
    return name if re.fullmatch(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*", name) else None


def listen_address(text: str) -> str | None:
    """host:port with an IPv6 host in [ ]; `:9464` is all IPv4 addresses. None: not of that form."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9._-]*):([0-9]{1,5})", text.strip(), re.ASCII)
    if found is None or int(found[2]) > 65535:
        return None
    return f"{found[1] or '0.0.0.0'}:{int(found[2])}"  # noqa: S104
