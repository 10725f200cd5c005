"""`ledger:` -> LedgerConfig; and where the ledger is when the rest of the file cannot be used: commands look for the
daemon there, whatever is wrong with the configuration on disk.
"""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from tunerd.config.ledger_settings import LedgerConfig
from tunerd.config.secret import Secret
from tunerd.config.text_forms import POSTGRESQL, Unusable, parse_ledger_url
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.loading.environment import substitute
from tunerd.loading.reading import ConfigReader
from tunerd.record import record
from tunerd.yaml_location import ConfigError, Node, YamlLocation

_URL: Final = re.compile(r"""(?P<quote>["'])(?P<quoted>sqlite:.*?)(?P=quote)|(?P<plain>sqlite:[^\s,#]+)""")
_OF_SERVERS: Final = {
    "directory": "directory",
    "password_file": "password_file",
    "notify": "notify",
    "keep_marks": "keep_marks_s",
}
"""Keys and fields."""
_SECTION: Final = re.compile(r"^(ledger|\"ledger\"|'ledger')\s*:", re.MULTILINE)
_COMMENT: Final = re.compile(r"^\s*#.*$|\s#[^'\"\n]*$", re.MULTILINE)


@record
class LedgerPlace:
    """Where a configuration file puts the ledger, as far as the file can be read."""

    path: str | None
    """None: the file does not say it."""
    is_server: bool = False
    """The ledger is in PostgreSQL: the path is what the local files of the instance begin with."""
    from_environment: bool = False
    """`${...}` is part of it: with another environment the same file means another ledger."""


def read_ledger(reader: ConfigReader, node: Node | None, root: Node, instance: str) -> LedgerConfig:
    """The section, with defaults in place of what was wrong."""
    block = reader.section(node, "ledger", LedgerConfig, root)
    config = LedgerConfig(**block.values)
    config = replace(config, directory=reader.absolute(config.directory))
    if config.path.startswith(POSTGRESQL):
        if config.password_file is not None:
            config = replace(config, password_file=reader.absolute(config.password_file))
        return replace(config, path=_local_path(config.directory, instance), server=Secret(config.path))
    for key, field in _OF_SERVERS.items():
        if key in block.nodes and getattr(config, field) != getattr(LedgerConfig(), field):
            block.warn(key, "has no effect on a ledger in a file; it is for postgresql://")
    kind = _volatile(config.path)
    if kind is not None:
        lost = f"{config.path} is on {kind}: the ledger is lost when this machine or pod restarts"
        block.warn("url", lost)
    return config


def instance_name(given: str | None) -> str:
    return given or socket.gethostname()


def _local_path(directory: str, instance: str) -> str:
    return os.path.join(directory, instance)


def ledger_place(text: str, file: str, environ: Mapping[str, str]) -> LedgerPlace:
    """The place of the ledger by the text of a configuration file, whatever else is wrong with it."""
    try:
        root = parse_yaml(text, file)
    except ConfigError:
        return _place_in_text(text, file, environ)
    members = root.value if isinstance(root.value, dict) else {}
    ledger = members.get("ledger")
    if isinstance(root.value, dict) and (ledger is None or ledger.value is None):
        return LedgerPlace(path=LedgerConfig().path)
    if ledger is None or not isinstance(ledger.value, dict):
        return LedgerPlace(path=None)
    url = ledger.value.get("url")
    if url is None:
        return LedgerPlace(path=LedgerConfig().path)
    if str(url.value).startswith(("postgresql://", "postgres://")):
        return _place_of_instance(members, file, environ)
    path = _filled_path(url, environ)
    if path is not None and path.startswith(POSTGRESQL):
        return _place_of_instance(members, file, environ)
    return LedgerPlace(path=path, from_environment="${" in str(url.value))


def _place_of_instance(members: Mapping[str, Node], file: str, environ: Mapping[str, str]) -> LedgerPlace:
    """With PostgreSQL: where the local files of the instance are."""
    section, written = members["ledger"].value, members.get("instance")
    directory = section.get("directory") if isinstance(section, dict) else None
    given = [None if one is None else substitute(one, environ, lambda _: False) for one in (directory, written)]
    place, name = (one.root.value if one is not None and not one.problems else None for one in given)
    base = os.path.dirname(os.path.abspath(file))
    whole = os.path.abspath(os.path.join(base, place if isinstance(place, str) else LedgerConfig().directory))
    is_filled = any("${" in str(one.value) for one in (directory, written) if one is not None)
    return LedgerPlace(path=_local_path(whole, instance_name(name if isinstance(name, str) else None)),
                       is_server=True, from_environment=is_filled)  # fmt: skip


def _place_in_text(text: str, file: str, environ: Mapping[str, str]) -> LedgerPlace:
    """The only text that looks like the URL of a ledger, if there is exactly one; without a `ledger:` section the default."""
    bare = _COMMENT.sub("", text)
    found = {one["quoted"] or one["plain"].rstrip("}]") for one in _URL.finditer(bare) if "${" not in one.group()}
    found |= {one["quoted"] or one["plain"] for one in _URL.finditer(bare) if "${" in one.group()}
    if len(found) == 1:
        url = found.pop()
        return LedgerPlace(path=_filled_path(Node(url, YamlLocation(file, 1, 1)), environ), from_environment="${" in url)
    if not found and text.strip() and not _SECTION.search(text):
        return LedgerPlace(path=LedgerConfig().path)
    return LedgerPlace(path=None)


def _filled_path(url: Node, environ: Mapping[str, str]) -> str | None:
    filled = substitute(url, environ, lambda _: False)
    try:
        return None if filled.problems else parse_ledger_url(filled.root.value)
    except (Unusable, ValueError):
        return None


def _volatile(path: str) -> str | None:
    """`tmpfs` or `ramfs` where the path is on one; None elsewhere and where it cannot be known."""
    try:
        mounts = Path("/proc/self/mounts").read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in mounts:
        fields = line.split(" ")
        if len(fields) > 2:
            point = fields[1].replace("\\040", " ")
            if len(point) >= len(best) and (real == point or real.startswith(point.rstrip("/") + "/")):
                best, kind = point, fields[2]
    return kind if kind in ("tmpfs", "ramfs") else None
