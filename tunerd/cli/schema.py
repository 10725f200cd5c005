"""`tunerd schema`: the JSON Schema of the configuration, for editors."""

import json

import click


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of the configuration.

    \b
    Example: let an editor complete and check the file
      tunerd schema > tunerd.config.schema.json
      # first line of config.yaml:
      # yaml-language-server: $schema=tunerd.config.schema.json
    """
    from tunerd.config.schema import config_schema
    from tunerd.mapping import presets

    click.echo(json.dumps(config_schema(presets.names()), indent=2))
