"""The rules that commands work with, from a configuration or a preset; their problems end the command with exit code 78."""

import os
from collections.abc import Mapping
from pathlib import Path

import click

from tunerd.call import Form
from tunerd.cli.options import exit_bad_config, load_or_exit
from tunerd.config import Config
from tunerd.delivery.key import Key
from tunerd.loading.config_file import load
from tunerd.loading.rule_checks import form_known
from tunerd.mapping import SourceMapping, compile_sources, presets
from tunerd.workbench.compiled import CompiledSource, compile_config, compile_preset
from tunerd.yaml_location import ConfigError

FORMS = click.Choice([form.value for form in Form])


def mappings_or_exit(config: Config) -> dict[str, SourceMapping]:
    """The rules of every source as `tunerd run` compiles them."""
    forms = {destination.name: form for destination in config.destinations if (form := Key(destination).form) is not None}
    try:
        return compile_sources(config, os.environ, forms)
    except ConfigError as exc:
        exit_bad_config(exc)


def compiled_or_exit(config: Config, form: Form | None = None) -> dict[str, CompiledSource]:
    """The rules of every source, to be tried. If neither `form` nor the configuration names the request form, the key does."""
    try:
        return compile_config(config, os.environ, _forms(config) if form is None else {}, form)
    except ConfigError as exc:
        exit_bad_config(exc)


def preset_or_exit(name: str, form: Form | None) -> CompiledSource:
    """The rules of a preset alone."""
    try:
        return compile_preset(name, os.environ, form)
    except KeyError:
        known = ", ".join(presets.names())
        raise click.BadParameter(f"there is no preset {name!r}; there is: {known}", param_hint="--preset") from None
    except ConfigError as exc:
        exit_bad_config(exc)


def config_or_exit(path: Path) -> Config:
    """The configuration without its keys: trying rules needs none."""
    return load_or_exit(path, resolve_secrets=False)


def _forms(config: Config) -> Mapping[str, Form]:
    """The request forms that the keys tell; without a key the form is not known."""
    try:
        with_keys = load(Path(config.file), os.environ)
    except ConfigError:
        return {}
    return {one.name: form for one in with_keys.destinations if (form := form_known(one)) is not None}
