"""`verify:` of a source: whether the URL of a recording is asked for before its call is sent, and which hosts may be. Pure."""

import ipaddress
import re
from collections.abc import Sequence
from typing import Annotated, Final, Literal, TypeAlias

from tunerd.config.settings import Seconds, Setting
from tunerd.record import positional_record, record

_IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*", re.ASCII)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


@positional_record
class AllowedHosts:
    """Which hosts of recordings may be asked. Those of the public internet always; of private, loopback and link-local
    addresses only what is named here, since documents say which host is asked."""

    names: frozenset[str] = frozenset()
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    @staticmethod
    def parse(texts: Sequence[str]) -> "AllowedHosts":
        """Host names, addresses and networks. Raises ValueError."""
        names: set[str] = set()
        networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for text in texts:
            try:
                networks.append(ipaddress.ip_network(text.strip("[]"), strict=False))
            except ValueError:
                name = text.lower().rstrip(".")
                if not _HOST.fullmatch(name) or name.rpartition(".")[2].isdigit():
                    raise ValueError(
                        f"takes host names, addresses and networks (media.internal, 10.1.2.3, 10.0.0.0/8), not `{text}`"
                    ) from None
                names.add(name)
        return AllowedHosts(frozenset(names), tuple(networks))

    def permit(self, host: str, address: str) -> bool:
        """Whether this host may be asked at this address of it."""
        if host.lower().rstrip(".") in self.names:
            return True
        found = ipaddress.ip_address(address)
        return any(found in network for network in self.networks) or all(map(_is_public, _meant(found)))


def _meant(address: _IpAddress) -> Sequence[_IpAddress]:
    """The address, and the IPv4 address that it stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address.sixtofour
    return [address] if inner is None else [address, inner]


def _is_public(address: _IpAddress) -> bool:
    return address.is_global and not address.is_multicast


def parse_allow(texts: tuple[str, ...]) -> tuple[str, ...]:
    AllowedHosts.parse(texts)
    return texts


@record
class VerifySettings:
    """What `verify:` says. Its short form is the value of `request:` alone."""

    request: Annotated[
        Literal["none", "get"],
        Setting("get: the first byte of an https or http recording is asked for before its call is sent; none: nobody asks."),
    ] = "none"
    wait_s: Annotated[
        Seconds, Setting("How long a URL may be absent at its host before the next strategy, or `on_missing`, answers.", low=1)
    ] = 1800.0
    allow: Annotated[
        tuple[str, ...],
        Setting(
            "Hosts, addresses and networks that may be asked though they are private, loopback or link-local.", parse=parse_allow
        ),
    ] = ()

    def verify_s(self) -> float | None:
        """What each call carries of it; None: its URL is not asked for."""
        return self.wait_s if self.request == "get" else None
