from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_network

import httpcore
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.dial import MAX_ADDRESSES, MAX_DIALS, BlockedError, FetchFailedError, GuardedBackend
from server.errors import RequestFailedError
from server.fetch import parse_url
from server.reach import NEVER, V4_DENIED, V6_DENIED, Reach, is_public, read_domain, read_network
from tests.server.origin import Origin

EDGES = [
    address
    for network in (*V4_DENIED, *V6_DENIED, *NEVER, ip_network("2000::/3"))
    for number in (int(network[0]) - 1, int(network[0]), int(network[-1]), int(network[-1]) + 1)
    if 0 <= number < 2**network.max_prefixlen
    for address in [ipaddress.IPv4Address(number) if network.version == 4 else ipaddress.IPv6Address(number)]
]
INSIDE = (lambda v4: IPv6Address((0xFFFF << 32) | int(v4)), lambda v4: IPv6Address(int(v4)),
          lambda v4: IPv6Address((0x64FF9B << 96) | int(v4)), lambda v4: IPv6Address((0x2002 << 112) | (int(v4) << 80)))  # fmt: skip
"""IPv4 addresses inside IPv6 ones: mapped, compatible, NAT64, 6to4."""
ADDRESSES = st.one_of(
    st.sampled_from(EDGES), st.ip_addresses(), st.builds(lambda wrap, v4: wrap(v4), st.sampled_from(INSIDE), st.ip_addresses(v=4))
)  # fmt: skip


def is_global(address: IPv4Address | IPv6Address) -> bool:
    """What the standard library says, which knows nothing of our lists. Where it says more is public than we do
    (multicast, 6to4's relays and wrappers, Teredo's neighbours, AS112, Azure's agent, documentation that it is too old
    to know), nothing is lost."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_global


@given(ADDRESSES)
def test_no_address_is_public_that_the_standard_library_says_is_not(
    address: IPv4Address | IPv6Address,
) -> None:
    assert not is_public(str(address)) or is_global(address)


STRICTER = [
    *("224.0.0.0/4", "192.88.99.0/24", "168.63.129.16/32", "192.0.0.0/24"),
    *("::/3", "4000::/2", "8000::/1", "2001::/23", "2002::/16", "3fff::/20", "2620:4f:8000::/48"),
]
"""Where the standard library, in one version or another, says more."""


@given(ADDRESSES)
def test_what_is_refused_beyond_that_is_listed_here(address: IPv4Address | IPv6Address) -> None:
    if is_global(address) and not is_public(str(address)):
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        assert any((mapped or address) in ip_network(text) for text in STRICTER)


HOSTS = st.one_of(
    st.sampled_from(["images.example", "127.1", "0x7f.1", "2130706433", "[::1]", "localhost", "127\u30020.0.1", "a..b", "\u2460.1"]),
    ADDRESSES.map(lambda ip: f"[{ip}]" if ip.version == 6 else str(ip)),
    st.text(st.characters(codec="utf-8"), max_size=20),
)  # fmt: skip
URLS = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["http://", "https://", "HTTP://", "http:/", "http:", "//", "file://", "ws://", ""]),
    st.sampled_from(["", "", "", "u@", "u:p@", "images.example@", "images.example\\@", "images.example#@"]),
    HOSTS,
    st.sampled_from(["", "", ":80", ":443", ":22", ":0", ":99999", ":", ":x"]),
    st.sampled_from(["", "/", "/a?b#c", "?@127.0.0.1", "#@127.0.0.1", "\\..", "/\n"]),
)


@settings(max_examples=300)
@given(URLS, st.lists(ADDRESSES.map(str), max_size=4))
@example("http://images.example/", ["93.184.215.14", "10.0.0.1"])
def test_whatever_an_address_says_and_a_name_server_answers_only_public_addresses_are_dialled(
    url: str, answers: list[str]
) -> None:
    try:
        parsed = parse_url(url, Reach())
    except RequestFailedError as error:
        assert error.code in ("invalid_image_url", "image_url_not_allowed")
        return
    port = parsed.port or (443 if parsed.scheme == "https" else 80)
    assert port in (80, 443)
    dialled = asyncio.run(dial(parsed.raw_host.decode("ascii"), port, answers))
    assert all(is_global(ipaddress.ip_address(address)) for address in dialled)
    assert bool(dialled) == (bool(answers) and all(map(is_public, answers)))
    assert dialled == answers[: len(dialled)]


async def dial(host: str, port: int, answers: Sequence[str], reach: Reach | None = None) -> list[str]:
    """The addresses that were dialled for a name with these answers; nobody is at home."""
    origin = Origin(port=1)  # nothing listens there
    guard = origin.backend(reach)

    async def resolve(host: str, port: int) -> list[str]:
        return list(answers)

    guard._resolve = resolve
    with pytest.raises((BlockedError, FetchFailedError, httpcore.ConnectError)):
        await guard.connect_tcp(host, port, timeout=5)
    return origin.dials


async def test_two_addresses_of_a_name_are_tried_and_of_very_many_none() -> None:
    many = [f"93.184.215.{n}" for n in range(MAX_ADDRESSES + 1)]
    assert await dial("images.example", 80, many[:-1]) == many[:MAX_DIALS]
    assert await dial("images.example", 80, many) == []


async def test_private_networks_can_be_opened_for_listed_domains_and_metadata_services_cannot() -> None:
    reach = Reach(
        ("store.example",), (read_network("10.0.0.0/8"), read_network("fd00::/8"), read_network("0.0.0.0/0"))
    )
    for address in ("10.1.2.3", "fd12::1", "::ffff:10.1.2.3", "93.184.215.14", "192.168.1.1"):
        assert await dial("store.example", 80, [address], reach) == [address]
        assert await dial("other.example", 80, [address], reach) == []
        assert await dial("store.example", 8080, [address], reach) == []
    for address in ("169.254.169.254", "168.63.129.16", "fd00:ec2::254", "127.0.0.1", "::1", "0.0.0.0", "::ffff:127.0.0.1",
                    "100.100.100.200", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "fe80::1%eth0"):  # fmt: skip
        assert await dial("store.example", 80, [address], reach) == [], address
        assert await dial("store.example", 80, ["10.1.2.3", address], reach) == [], address


async def test_a_unix_socket_is_never_dialled() -> None:
    with pytest.raises(BlockedError):
        await GuardedBackend().connect_unix_socket("/run/docker.sock")


@pytest.mark.parametrize(("domain", "host", "expected"), [
    ("images.example", "IMAGES.example.", True), ("images.example", "a.images.example", False), ("images.example", "ximages.example", False),
    ("*.images.example", "a.b.images.example", True), ("*.images.example", "images.example", False), ("*.images.example", "ximages.example", False),
    ("*.B\u00fccher.example.", "a.xn--bcher-kva.example", True), ("192.0.2.1", "192.0.2.1", True), ("localhost", "localhost", True),
    ("images.example", "images.example..", False), ("images.example", "", False),
])  # fmt: skip
def test_domains(domain: str, host: str, expected: bool) -> None:
    assert Reach((read_domain(domain),)).has_host(host) is expected


@pytest.mark.parametrize("text", [
    "", "*", "*.", "a..b", "http://images.example", "images.example/a", "images.example:80", "a b", "*.*.example", "a.*.example",
    "x" * 64, "1.2.3", "*.1", "256.1.1.1", "[::1]", "-a.example", "\u2028.example",
])  # fmt: skip
def test_what_is_no_domain_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        read_domain(text)


@pytest.mark.parametrize(
    "text", ["10.0.0.1/8", "x", "127.0.0.0/8", "169.254.169.254", "::1", "::ffff:10.0.0.0/104", "fe80::/64"]
)
def test_what_may_not_be_opened_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        read_network(text)
