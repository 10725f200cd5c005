"""What the commands for people who write rules share: rules from a configuration or a preset, and the files to try."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

import click

from tunerd.call import Form
from tunerd.cli.documents import would_read
from tunerd.cli.options import exit_bad_config, load_or_exit
from tunerd.cli.terminal import say
from tunerd.config import Config
from tunerd.loading.config_file import load
from tunerd.loading.rule_checks import form_known
from tunerd.mapping import presets
from tunerd.places import ConfigError
from tunerd.workbench.compiled import CompiledSource, compile_config, compile_preset

FORMS = click.Choice([form.value for form in Form])


def benches_or_exit(config: Config, form: Form | None = None, *, with_keys: bool = True) -> dict[str, CompiledSource]:
    """The rules of every source; their problems on stderr and exit 78. `with_keys`: where neither `form` nor the
    configuration says the request form, the key does."""
    try:
        return compile_config(config, os.environ, _forms(config) if with_keys and form is None else {}, form)
    except ConfigError as exc:
        exit_bad_config(exc)


def config_or_exit(path: Path) -> Config:
    """The configuration without its keys: trying rules needs none."""
    return load_or_exit(path, resolve_secrets=False)


def preset_or_exit(name: str, form: Form | None) -> CompiledSource:
    try:
        return compile_preset(name, os.environ, form)
    except KeyError:
        raise click.BadParameter(
            f"there is no preset {name!r}; there is: {', '.join(presets.names())}", param_hint="--preset"
        ) from None
    except ConfigError as exc:
        exit_bad_config(exc)


def _forms(config: Config) -> Mapping[str, Form]:
    """The request forms that the keys tell, where there are keys: a missing one only means that the form is not known."""
    try:
        with_keys = load(Path(config.file), os.environ)
    except ConfigError:
        return {}
    return {one.name: form for one in with_keys.destinations if (form := form_known(one)) is not None}


def files_of(paths: Iterable[Path], wanted: Callable[[Path], bool]) -> Iterator[tuple[Path, bool]]:
    """The files as they are named; of a directory the wanted ones, below it too, in the order of names. With each: whether
    it was named itself."""
    for path in paths:
        if not path.is_dir():
            yield path, True
            continue
        for directory, names, files in os.walk(path):
            names[:] = sorted(name for name in names if not name.startswith("."))
            for name in sorted(files):
                if not name.startswith(".") and wanted(Path(directory, name)):
                    yield Path(directory, name), False


def fits(patterns: Sequence[str]) -> Callable[[Path], bool]:
    """`wanted` by patterns of the name alone."""
    return lambda path: any(fnmatch(path.name, pattern) for pattern in patterns)


def wanted_by(config: Config, named: str | None = None) -> Callable[[Path], bool]:
    """What a source of the configuration reads of its own directory (`run`'s own tests decide), and elsewhere what fits the
    patterns of one. `named`: of this source only."""
    sources = [source for source in config.sources if named is None or source.name == named]
    fit = fits([pattern for source in sources for pattern in source.include])

    def wanted(path: Path) -> bool:
        absolute = os.path.abspath(path)
        inside = [one for one in sources if absolute.startswith(os.path.abspath(one.path).rstrip("/") + "/")]
        return any(would_read(one, absolute) for one in inside) if inside else fit(path)

    return wanted


def cannot_read(file: Path, exc: OSError | ValueError) -> None:
    """One line on stderr."""
    why = "there is no such file" if isinstance(exc, FileNotFoundError) else getattr(exc, "strerror", None) or str(exc)
    say(f"tunerd: {file} cannot be read: {why}", err=True)


def plain_output() -> bool:
    """Whether the output goes to a file or another program."""
    return not sys.stdout.isatty()
