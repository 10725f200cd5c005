"""Config -> YAML text with every default filled in and every secret hidden: what is in force, for a person. Pure."""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import yaml

from tunerd.call import Fail, Hold, SendAnyway
from tunerd.config import AudioSettings, Config, Destination, LedgerConfig, ManifestRule, Source, StrategyRule
from tunerd.config.quantities import duration_text
from tunerd.config.secret import HIDDEN
from tunerd.config.settings import ValueKind, keys_of


def redacted(config: Config) -> str:
    """YAML of the configuration in force. Keys are `(hidden)`, queries of URLs are cut, rules are shown as they were written.

    It is made to be read: with several destinations it is not a file to load again.
    """
    shown = {
        "destinations": [_destination(destination) for destination in config.destinations],
        "sources": [_source(source) for source in config.sources],
        "delivery": _section(config.delivery),
        "ledger": {"url": _ledger_url(config.ledger), **_section(config.ledger)},
        "http": {
            "listen": config.http.listen or None,
            "admin_listen": config.http.admin_listen or None,
            "admin_token_file": config.http.admin_token_file,
            "hosts": list(config.http.hosts),
        },
        "log": _section(config.log),
        "control_socket": config.control_socket,
        "instance": config.instance,
    }
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


def _ledger_url(ledger: LedgerConfig) -> str:
    return f"sqlite://{ledger.path}" if ledger.server is None else ledger.shown


def _destination(destination: Destination) -> dict[str, Any]:
    by_file = destination.api_key_file is not None
    return {
        "name": destination.name,
        "base_url": destination.base_url,
        "workspace_id": destination.workspace_id,
        "api": destination.api,
        **({"api_key_file": destination.api_key_file} if by_file else {"api_key": HIDDEN if destination.api_key else None}),
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
        shown["audio"] = _audio(source.audio)
    if source.redact is not None:
        shown["redact"] = {**_section(source.redact), "patterns": dict(source.redact.patterns)}
    if source.recording is not None:
        shown["recording"] = [_strategy(rule) for rule in source.recording]
    return shown


def _audio(audio: AudioSettings) -> dict[str, Any]:
    publish = {"url": audio.url.bare()} if audio.url is not None else audio.publish
    after: Any = {"move_to": audio.move_to} if audio.move_to else audio.after_upload.value
    return {"publish": publish, **_section(audio), "after_upload": after}


def _strategy(rule: StrategyRule) -> dict[str, Any]:
    if not isinstance(rule, ManifestRule):
        return _section(rule)
    return {**_section(rule), "within": "any" if rule.within_s is None else duration_text(rule.within_s)}


def _section(model: Any) -> dict[str, Any]:
    """Each key as it would be written; rules that are not there, and forms of their own, are left out."""
    declared: type = type(model)
    shown: dict[str, Any] = {}
    for key in keys_of(declared).values():
        value = getattr(model, key.field)
        if key.kind is ValueKind.RULE and value is not None:
            shown[key.name] = value.bare()
        elif key.kind not in (ValueKind.RULE, ValueKind.OWN):
            shown[key.name] = key.written(value)
    return shown
