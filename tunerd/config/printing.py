"""Config -> YAML text with every default filled in and every secret hidden: what is in force, for a person. Pure."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tunerd.call import Fail, Hold, SendAnyway
from tunerd.config import Config, Destination, ManifestRule, Source, UrlRule
from tunerd.config.quantities import duration_text
from tunerd.config.secret import HIDDEN
from tunerd.config.settings import ValueKind, keys_of
from tunerd.places import Node


def redacted(config: Config) -> str:
    """YAML of the configuration in force. Keys are `(hidden)`, queries of URLs are cut, rules stand as they were written.

    It is made to be read: with several destinations it is not a file to load again.
    """
    shown = {
        "destinations": [_destination(destination) for destination in config.destinations],
        "sources": [_source(source) for source in config.sources],
        "delivery": _section(config.delivery),
        "ledger": {"url": f"sqlite://{config.ledger.path}", **_section(config.ledger)},
        "http": {"listen": config.http.listen or None, "hosts": list(config.http.hosts)},
        "log": _section(config.log),
    }
    return "\n".join(_lines(shown, 0)) + "\n"


def _destination(destination: Destination) -> dict[str, Any]:
    key = {"api_key_file": destination.api_key_file} if destination.api_key_file else {"api_key": HIDDEN}
    return {
        "name": destination.name,
        "base_url": destination.base_url,
        "workspace_id": destination.workspace_id,
        "api": destination.api,
        **(key if destination.api_key_file or destination.api_key else {"api_key": None}),
        "ca_file": destination.ca_file,
    }


def _source(source: Source) -> dict[str, Any]:
    shown = _section(source)
    shown["after_sent"] = {"move_to": source.move_to} if source.after_sent == "move_to" else source.after_sent
    if source.destination:
        shown["destination"] = source.destination
        shown["agent_remote_identifier"] = source.agent_remote_identifier
        match source.on_missing:
            case Hold(hold_s=hold_s):
                shown |= {"on_missing": "hold", "hold_for": duration_text(hold_s)}
            case Fail():
                shown["on_missing"] = "fail"
            case SendAnyway(url=url):
                shown["on_missing"] = {"send": urlunsplit((*urlsplit(url)[:3], "", ""))}
    if source.redact is not None:
        shown["redact"] = {**_section(source.redact), "patterns": dict(source.redact.patterns)}
    for name in ("agent", "gather", "call", "manifest"):
        node = getattr(source, name)
        if isinstance(node, Node):
            shown[name] = node.bare()
    if source.recording is not None:
        shown["recording"] = [_strategy(rule) for rule in source.recording]
    return shown


def _strategy(rule: UrlRule | ManifestRule) -> dict[str, Any]:
    if isinstance(rule, UrlRule):
        return {"url": rule.url.bare()} | ({"expires_at": rule.expires_at.bare()} if rule.expires_at else {})
    within = "any" if rule.within_s is None else duration_text(rule.within_s)
    return {"manifest": rule.manifest, "key": rule.key.bare(), "within": within, "wait": duration_text(rule.wait_s)}


def _section(model: Any) -> dict[str, Any]:
    declared: type = type(model)
    plain = [key for key in keys_of(declared).values() if key.kind not in (ValueKind.RULE, ValueKind.OWN)]
    return {key.name: key.written(getattr(model, key.field)) for key in plain}


def _lines(value: Any, indent: int) -> list[str]:
    """Block style down to the rules' level, JSON (which is YAML) for what is short or deeper."""
    pad = "  " * indent
    lines: list[str] = []
    if isinstance(value, Mapping):
        for name, member in value.items():
            if isinstance(member, Mapping | list) and member and (indent < 4 or isinstance(member, Mapping)) and _long(member):
                lines += [f"{pad}{_name(name)}:", *_lines(member, indent + 1)]
            else:
                lines.append(f"{pad}{_name(name)}: {_json(member)}")
    elif isinstance(value, list):
        for member in value:
            if isinstance(member, Mapping) and member and _long(member):
                first, *rest = _lines(member, indent + 1)
                lines += [f"{pad}- {first.lstrip()}", *rest]
            else:
                lines.append(f"{pad}- {_json(member)}")
    return lines


def _long(value: Any) -> bool:
    return len(_json(value)) > 60


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _name(name: str) -> str:
    return name if name.replace("_", "").isalnum() and name.isascii() and not name[:1].isdigit() else json.dumps(name)
