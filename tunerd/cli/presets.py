"""`tunerd presets`: list the ready-made rules, or show one of them."""

import click

from tunerd.cli.terminal import say, say_lines

_EPILOG = """\b
Examples:
  tunerd presets
  tunerd presets show vapi
  tunerd explain --preset vapi call.json     how it maps a file of yours

In a configuration, write `preset: vapi` in a source; fields under `call:` replace those of the preset.
Exit code: 0; 2 there is no such preset.
"""


@click.group("presets", invoke_without_command=True, epilog=_EPILOG)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List the presets (ready-made rules of voice platforms), or show one."""
    if ctx.invoked_subcommand is None:
        from tunerd.workbench.catalogue import lines

        for line in lines():
            say(line)


@command.command("show", epilog="\b\nExample:\n  tunerd presets show livekit-egress > mine.yaml")
@click.argument("name")
def show(name: str) -> None:
    """Print the YAML of preset NAME."""
    from tunerd.loading.reading import nearest
    from tunerd.mapping import presets

    try:
        say_lines(presets.rules_text(name).removesuffix("\n"))
    except KeyError:
        known = presets.names()
        near = nearest(name, known)
        hint = f"did you mean {near}?" if near else f"there is: {', '.join(known)}"
        raise click.BadParameter(f"there is no preset {name!r}; {hint}", param_hint="NAME") from None
