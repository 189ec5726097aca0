"""What `image_url` may reach: hosts by their name, addresses, ports. Pure; asked for every hop and for every dial."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

PORTS = (80, 443)
MAX_HOST_CHARS = 253

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

V4_DENIED = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # Azure's host agent has a public address
    )
)  # fmt: skip
V6_ALLOWED = IPv6Network("2000::/3")
"""An allowed range, so that NAT64, v4-compatible, unique local and link-local addresses all fail closed."""
V6_DENIED = tuple(
    IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "2620:4f:8000::/48")
)
NEVER = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "224.0.0.0/4",
        "240.0.0.0/4", "::/8", "64:ff9b::/96", "2002::/16", "fe80::/10", "fd00:ec2::254/128", "ff00::/8",
    )
)  # fmt: skip
"""What no operator's list opens: this machine, the clouds' metadata services, and addresses inside of others."""

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class Reach:
    """`domains` as `read_domain` returns them, None for any; `networks` that may be dialled besides public ones."""

    domains: tuple[str, ...] | None = None
    networks: tuple[Network, ...] = ()
    ports: tuple[int, ...] = PORTS

    def has_host(self, host: str) -> bool:
        """True for a host (IDNA-encoded, without brackets) that is one of the domains."""
        if self.domains is None:
            return True
        name = host.lower().removesuffix(".")
        return any(
            name.endswith(domain[1:]) if domain.startswith("*.") else name == domain
            for domain in self.domains
        )

    def has_address(self, address: str) -> bool:
        """True for an IP address that may be dialled."""
        ip = _parse(address)
        if ip is None:
            return False
        return _is_public(ip) or (_is_in(ip, self.networks) and not _is_in(ip, NEVER))


def is_public(address: str) -> bool:
    """True for an IP address that belongs to the public internet."""
    ip = _parse(address)
    return ip is not None and _is_public(ip)


def read_domain(text: str) -> str:
    """``Bücher.example.`` as ``xn--bcher-kva.example``; ``*.`` at its beginning stands for one label or more.

    Raises ValueError.
    """
    name = text.strip().lower().removesuffix(".")
    if not name.isascii():
        import idna  # comes with httpx, which encodes the hosts of addresses by it

        star = "*." if name.startswith("*.") else ""
        name = star + idna.encode(name.removeprefix("*.")).decode("ascii")  # its errors are ValueErrors
    if len(name) > MAX_HOST_CHARS or not _DOMAIN.fullmatch(name):
        raise ValueError(f"{text!r:.80} is no domain; write images.example.com or *.example.com")
    if name.rpartition(".")[2].isdigit() and not _is_plain_v4(name):
        raise ValueError(f"{text!r:.80} is neither a domain nor an address like 192.0.2.1")
    return name


def read_network(text: str) -> Network:
    """A network in CIDR notation that may be opened. Raises ValueError."""
    network = ip_network(text.strip())
    for never in NEVER:
        if network.version == never.version and network.subnet_of(never):  # type: ignore[arg-type]
            raise ValueError(f"{text!r:.80} lies in {never}, which is never fetched from")
    return network


def _parse(address: str) -> Address | None:
    try:
        ip = ip_address(address.split("%", 1)[0])
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip


def _is_in(ip: Address, networks: tuple[Network, ...]) -> bool:
    return any(ip in network for network in networks)


def _is_public(ip: Address) -> bool:
    if isinstance(ip, IPv4Address):
        return not _is_in(ip, V4_DENIED)
    return ip in V6_ALLOWED and not _is_in(ip, V6_DENIED)


def _is_plain_v4(name: str) -> bool:
    try:
        IPv4Address(name)
    except ValueError:
        return False
    return True
