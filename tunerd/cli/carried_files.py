"""The files that come with tunerd and are no Python: units, man page, example configuration. The wheel has them in a directory of
the package (pyproject.toml, force-include); in a checkout they are where they are written.
"""

from pathlib import Path
from typing import Final

import tunerd

_PACKAGE: Final = Path(tunerd.__file__).parent
_IN_A_CHECKOUT: Final = {
    "tunerd.1": "docs/tunerd.1",
    "systemd.md": "docs/systemd.md",
    "config.example.yaml": "config.example.yaml",
}
"""All others are in systemd/."""


def carried(name: str) -> str:
    """The text of `tunerd.service`, `tunerd@.service`, `sysusers.conf`, `tmpfiles.conf`, or one of the names above."""
    in_the_wheel = _PACKAGE / "systemd" / name
    if in_the_wheel.exists():
        return in_the_wheel.read_text()
    return (_PACKAGE.parent / _IN_A_CHECKOUT.get(name, f"systemd/{name}")).read_text()
