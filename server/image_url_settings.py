"""The operator's settings of `image_url`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from server.reach import PORTS, Network, Reach, read_domain, read_network


def _parts(value: object) -> list[object]:
    """Of ``a, b`` from the environment or the command line; TOML brings a list."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, Iterable) and not isinstance(value, Mapping):
        return list(value)
    raise ValueError("must be a list, or text with commas")


def _read_each(read: Callable[[str], object]) -> Callable[[object], object]:
    return lambda value: tuple(read(part) if isinstance(part, str) else part for part in _parts(value))


def _read_domains(value: object) -> object:
    if value in ("public", "off"):
        return value
    is_list = isinstance(value, str | list | tuple)
    domains = tuple(read_domain(str(part)) for part in _parts(value)) if is_list else ()
    if not domains or {"public", "off"} & set(domains):
        raise ValueError(
            "must be public, off, or a list of domains such as images.example.com, *.example.org"
        )
    return domains


def _read_ports(value: object) -> object:
    ports = tuple(int(text) for text in map(str, _parts(value)) if text.isascii() and text.isdigit())
    if not ports or len(ports) != len(_parts(value)) or not all(1 <= port <= 65535 for port in ports):
        raise ValueError("must be one port or several, of 1 to 65535")
    return ports


Domains = Annotated[Literal["public", "off"] | tuple[str, ...], NoDecode, BeforeValidator(_read_domains)]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_read_each(read_network))]
Ports = Annotated[tuple[int, ...], NoDecode, BeforeValidator(_read_ports)]


class ImageUrlSettings(BaseModel):
    """A part of Settings."""

    image_url: Domains = Field(
        "public",
        description="Where images are fetched from by URL: `public` (any public address), `off`, or a list of domains "
        "(`images.example.com`, `*.example.org`).",
    )
    image_url_networks: Networks = Field(
        (),
        description="Private networks (`10.1.0.0/16`) that the listed domains may lie in; only with a list of domains.",
    )
    image_url_ports: Ports = Field(PORTS, description="Ports that images are fetched from.")
    max_fetches: int = Field(64, ge=1, description="Downloads of images at once.")
    max_host_fetches: int = Field(8, ge=1, description="Of those, from one host.")
    max_key_fetches: int = Field(4, ge=1, description="Of those, for one API key.")

    @model_validator(mode="after")
    def _networks_are_for_listed_domains(self) -> Self:
        if self.image_url_networks and isinstance(self.image_url, str):
            raise ValueError(
                "image_url_networks needs image_url to be a list of domains: else every client could reach them"
            )
        return self

    @property
    def reach(self) -> Reach:
        """What may be fetched from; of `off`, what nobody asks for."""
        domains = self.image_url if isinstance(self.image_url, tuple) else None
        return Reach(domains, self.image_url_networks, self.image_url_ports)
