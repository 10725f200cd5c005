"""What the installed systemd service hides from tunerd: a command in a shell sees files in /home and /tmp that the service does
not see. `tunerd check` asks systemd for the unit that runs with the checked configuration, drop-ins included. Pure, but for
`service_of`.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Final

from tunerd.config import Config, Source
from tunerd.record import record

_CONFIG_DIRECTORY: Final = "/etc/tunerd"
_HOMES: Final = ("/home", "/root", "/run/user")
"""What ProtectHome= hides."""
_TEMPORARY: Final = ("/tmp", "/var/tmp")  # noqa: S108 - these names are what is checked
_WRITABLE: Final = ("/dev", "/proc", "/sys")
_PROPERTIES: Final = ("LoadState", "Environment", "ProtectHome", "PrivateTmp", "ProtectSystem", "BindPaths", "BindReadOnlyPaths",
                      "ReadWritePaths", "StateDirectory")  # fmt: skip
_ANSWERS_WITHIN_S: Final = 5.0


@record
class Service:
    """A unit and its properties, as `systemctl show` prints them."""

    unit: str
    properties: Mapping[str, str]

    def is_on(self, name: str) -> bool:
        return self.properties.get(name, "no") not in ("no", "")

    def paths(self, *names: str) -> list[str]:
        """Paths as the service sees them: `-/a`, `+/a`, or of a bind mount `/from:/to:options`."""
        words = [word.lstrip("-+") for name in names for word in self.properties.get(name, "").split()]
        return [word.split(":")[1] if ":" in word else word for word in words]


def hidden_from_service(config: Config, service: Service) -> list[str]:
    """A line for each source, key and ledger that the service cannot see, or cannot write although it has to. Pure."""
    unseen = [line for what, path in _read_paths(config) if (line := _unseen(service, what, path))]
    seen = [source for source in config.sources if _unseen(service, source.name, source.path) is None]
    return unseen + [
        f"source {source.name}: after_sent has to write into {path}, but {service.unit} may only read it "
        f"(ProtectSystem=strict). {_drop_in(service, f'ReadWritePaths=-{path}')}"
        for source in seen
        for path in _written_paths(source)
        if not _may_write(service, path)
    ]


def is_in_a_home(path: str) -> bool:
    """Whether the unit, as it comes with tunerd, hides this path."""
    return _is_below(path, _HOMES)


def service_of(config_file: str) -> Service | None:
    """The installed unit that runs with this file; None if there is none, or no systemd to ask. Blocking."""
    path = PurePath(os.path.abspath(config_file))
    is_instance = str(path.parent) == _CONFIG_DIRECTORY and path.stem != "config"
    unit = f"tunerd@{path.stem}.service" if is_instance else "tunerd.service"
    asked = ["systemctl", "show", unit, *(f"--property={name}" for name in _PROPERTIES)]
    try:
        done = subprocess.run(  # noqa: S603 - the only word from outside is the unit's name
            asked, capture_output=True, text=True, timeout=_ANSWERS_WITHIN_S, check=True
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    shown = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    runs_with = f"TUNERD_CONFIG={path}" in shown.get("Environment", "").split()
    return Service(unit=unit, properties=shown) if shown.get("LoadState") == "loaded" and runs_with else None


def _read_paths(config: Config) -> Iterator[tuple[str, str]]:
    for source in config.sources:
        yield f"source {source.name}", source.path
    for destination in config.destinations:
        for path in (destination.api_key_file, destination.ca_file):
            if path is not None:
                yield f"destination {destination.name}", path
    yield "ledger", config.ledger.path
    if config.ledger.password_file is not None:
        yield "ledger", config.ledger.password_file


def _written_paths(source: Source) -> list[str]:
    """The directories that `after_sent` changes: it removes files from the source's, and creates them in that of `move_to`."""
    if source.after_sent == "keep":
        return []
    moved = [] if source.move_to is None else [os.path.normpath(os.path.join(source.path, source.move_to))]
    return [source.path, *(path for path in moved if not _is_below(path, [source.path]))]


def _unseen(service: Service, what: str, path: str) -> str | None:
    if _is_below(path, service.paths("BindPaths", "BindReadOnlyPaths")):
        return None
    home = service.properties.get("ProtectHome", "no")
    if home in ("yes", "tmpfs") and _is_below(path, _HOMES):
        return (
            f"{what}: {service.unit} cannot see {path} (ProtectHome={home}). Use a directory outside {', '.join(_HOMES)}, or "
            f"show this one to the service. {_drop_in(service, 'ProtectHome=tmpfs', f'BindPaths={path}')}"
        )
    if service.is_on("PrivateTmp") and _is_below(path, _TEMPORARY):
        return (
            f"{what}: {service.unit} cannot see {path}, because its /tmp and /var/tmp are its own (PrivateTmp=yes). Use another "
            f"directory, or show this one to the service. {_drop_in(service, f'BindPaths={path}')}"
        )
    return None


def _may_write(service: Service, path: str) -> bool:
    if service.properties.get("ProtectSystem") != "strict":
        return True
    states = [f"/var/lib/{name}" for name in service.properties.get("StateDirectory", "").split()]
    own = [*service.paths("ReadWritePaths", "BindPaths"), *states, *_WRITABLE]
    return _is_below(path, own) or (service.is_on("PrivateTmp") and _is_below(path, _TEMPORARY))


def _drop_in(service: Service, *lines: str) -> str:
    return f"`systemctl edit {service.unit}`: [Service] {' '.join(lines)}"


def _is_below(path: str, directories: tuple[str, ...] | list[str]) -> bool:
    real = PurePath(os.path.abspath(path))
    return any(real.is_relative_to(directory) for directory in directories)
