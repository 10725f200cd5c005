"""`tunerd check`: every problem of the configuration, or a summary of it."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import click

from tunerd.cli.options import config_option, exit_bad_config
from tunerd.cli.terminal import say, say_lines
from tunerd.config import Config, Destination, Source
from tunerd.yaml_location import ConfigError

_MADE_UP_AGENT: Final = "tunerd-check"


@click.command("check")
@config_option
@click.option("--strict", is_flag=True, help="Fail on warnings, too (a missing directory or key file, ...).")
@click.option("--online", is_flag=True, help="Post an empty call to each destination, to try its address and key.")
@click.option("--print", "show", is_flag=True, help="Also print the effective configuration: with defaults, keys hidden.")
def command(config: Path, strict: bool, online: bool, show: bool) -> None:
    """Check the configuration, and summarise it.

    All problems are listed at once, with file, line and column. Exit code: 0 no problem; 1 warnings with --strict, or a
    destination that --online could not use; 78 a configuration that `run` would refuse.

    \b
    Example: before a reload
      tunerd check -c config.yaml --strict --online && systemctl reload tunerd
    """
    from tunerd.loading.rule_checks import check_file
    from tunerd.loading.service_sandbox import hidden_from_service, service_of

    try:
        loaded = check_file(config, os.environ)
    except ConfigError as exc:
        exit_bad_config(exc)
    service = service_of(str(config))
    warnings = [*loaded.warnings, *(hidden_from_service(loaded, service) if service is not None else [])]
    say(f"ok: {config}")
    for line in summary(loaded):
        say(line)
    ledger_code = _inspect_ledger(loaded, warnings)
    signs_well = _sign_samples(loaded, warnings, online=online)
    if show:
        from tunerd.config.printing import redacted

        say()
        say_lines(redacted(loaded).removesuffix("\n"))
    for warning in warnings:
        say(f"warning: {warning}", err=True)
    if ledger_code:
        sys.exit(ledger_code)
    failed = strict and bool(warnings)
    if online:
        failed = not asyncio.run(_try_all(loaded)) or failed or not signs_well
    sys.exit(1 if failed else 0)


def _inspect_ledger(config: Config, warnings: list[str]) -> int:
    """A line about the server of a ledger in PostgreSQL. Gives the exit code with which `run` would refuse it; 0: none. A server
    that does not answer is a warning: this may be another machine than the one that `run` is meant for."""
    if config.ledger.server is None:
        return 0
    from tunerd.ledger import LedgerRefused
    from tunerd.ledger.exceptions import MISCONFIGURED, UNREACHABLE
    from tunerd.open_ledger import inspect_server

    try:
        found = inspect_server(config.ledger)
    except LedgerRefused as exc:
        if exc.exit_code != UNREACHABLE:
            say(f"ledger.url: {exc}", err=True)
            return exc.exit_code
        warnings.append(f"ledger.url: {exc}")
        return 0
    tables = "the first start makes its tables" if found.is_new else "its tables are there"
    say(f"  ledger {config.ledger.shown}: {found.server}, {tables}; this is the instance {config.instance}")
    for line in found.missing:
        say(f"ledger.url: {line}", err=True)
    deleting = [source.name for source in config.sources if source.after_sent == "delete"]
    if found.asynchronous and deleting:
        warnings.append(
            f"ledger.url: the standbys {', '.join(found.asynchronous)} are asynchronous: a failover may lose the last calls, "
            f"and `after_sent: delete` (source {', '.join(deleting)}) has removed their files. Set synchronous_standby_names, or "
            "use `after_sent: keep`"
        )
    return MISCONFIGURED if found.missing else 0


def _sign_samples(config: Config, warnings: list[str], *, online: bool) -> bool:
    """A line for each bucket whose URLs are signed; what is wrong becomes a warning. True: nothing is."""
    if not any(source.audio.publish == "presign" for source in config.sources):
        return True
    from tunerd.cli.sample_signature import sample_signatures

    samples = sample_signatures(config, online=online)
    for is_good, line in samples:
        if is_good:
            say(f"  {line}")
        else:
            warnings.append(line)
    return all(is_good for is_good, _ in samples)


def summary(config: Config) -> list[str]:
    """A line for each destination and source, and the fields that its request form cannot carry."""
    lines = [f"  destination {destination.name}: {_form_text(destination)}" for destination in config.destinations]
    destinations = {destination.name: destination for destination in config.destinations}
    for source in config.sources:
        gives = [
            *(["calls"] if source.destination else []),
            *(["recordings"] if _fields(source, "manifest") else []),
        ]
        to = f" -> {source.destination}" if source.destination else ""
        preset = f" (preset {source.preset})" if source.preset else ""
        lines.append(f"  source {source.name}: {' and '.join(gives)} from {source.path}{preset}{to}")
        if source.destination and (left_out := _not_carried(source, destinations[source.destination])):
            lines.append(f"    the form send-calls cannot carry: {', '.join(left_out)}")
    return lines


def _not_carried(source: Source, destination: Destination) -> list[str]:
    from tunerd.loading.rule_checks import form_known
    from tunerd.mapping.forms import fields_not_carried

    form = form_known(destination)
    return sorted(fields_not_carried(form) & _fields(source, "call")) if form is not None else []


def _fields(source: Source, mapping: str) -> frozenset[str]:
    """The fields that a source maps: its preset's and its own (null disables one)."""
    from tunerd.mapping import presets

    effective = presets.effective(source)
    node = effective.call if mapping == "call" else effective.manifest
    rules = node.value if node is not None and isinstance(node.value, dict) else {}
    return frozenset(name for name, rule in rules.items() if rule.value is not None and name not in ("let", "when", "refuse"))


def _form_text(destination: Destination) -> str:
    from tunerd.loading.rule_checks import form_known

    form = form_known(destination)
    if form is None:
        return "request form not known: its key is not there yet"
    return f"request form {form.value}" + (" (by the key)" if destination.form is None else "")


async def _try_all(config: Config) -> bool:
    """Try every destination; True if all can be used."""
    from tunerd.delivery.probe import probe_destination

    good = True
    for destination in config.destinations:
        named = [source.agent_remote_identifier for source in config.sources if source.destination == destination.name]
        agents = list(dict.fromkeys(agent for agent in named if agent))
        for agent in agents or [_MADE_UP_AGENT]:
            probed = await probe_destination(destination, agent, config.delivery, os.environ)
            made_up = "" if agents else f" (with the made-up agent {agent}, because a rule sets the agent of each call)"
            say(f"online: {destination.name}: {probed.says}{made_up}", err=not probed.good)
            good = good and probed.good
    return good
