"""Which `Host` headers the status page answers. A web page can make a browser request any address under the page's own name
(DNS rebinding) and read the answer; under an IP address, or a name of this machine, it cannot. Pure.
"""

import ipaddress
import re
from collections.abc import Collection
from typing import Final

_HERE: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
_HOST: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)(?:%[^\]\s]*)?\]|(?P<name>[^\s:\[\]@/]+))(?::[0-9]{1,5})?", re.ASCII)


def is_answered(host: str, hosts: Collection[str]) -> bool:
    """Whether a request with this Host header may see the status: its host is an IP address, a loopback name, or in `hosts`."""
    found = _HOST.fullmatch(host.strip())
    if found is None:
        return False
    name = (found["six"] or found["name"]).rstrip(".").lower()
    return _is_address(name) or name in _HERE or name.endswith(".localhost") or name in hosts


def is_of_this_machine(host: str) -> bool:
    """Whether this Host header is a loopback address or name. Under any other name, something forwards the requests of others."""
    found = _HOST.fullmatch(host.strip())
    if found is None:
        return False
    name = (found["six"] or found["name"]).rstrip(".").lower()
    return name in _HERE or name.endswith(".localhost") or (_is_address(name) and ipaddress.ip_address(name).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
