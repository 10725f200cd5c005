"""`tunerd schema`: the JSON Schema of the configuration, for editors."""

import click

from tunerd.cli.terminal import say_plain_json


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of the configuration.

    \b
    Example: let an editor complete and check the file
      tunerd schema > tunerd.config.schema.json
      # first line of config.yaml:
      # yaml-language-server: $schema=tunerd.config.schema.json
    """
    from tunerd.config.json_schema import config_schema
    from tunerd.mapping import presets

    say_plain_json(config_schema(presets.names()))
