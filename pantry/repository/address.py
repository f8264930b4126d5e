"""Addresses of files on the web: parsed once, and the rules for where a redirect may lead."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urljoin, urlsplit, urlunsplit

from pantry.core.errors import DownloadError, UsageError
from pantry.core.units import without_secrets

_PORTS = {"http": 80, "https": 443}
Network = Literal["public", "local network", "link", "this machine"]


@dataclass(frozen=True)
class Address:
    """An http or https address, without user name and fragment."""

    scheme: str
    host: str
    port: int
    target: str
    """Path and query, as they go into the request line."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse an address. Raises UsageError for another scheme, a missing host, or credentials in the address."""
        shown = without_secrets(text)[:200]
        try:
            parts = urlsplit(text.strip())
            port = parts.port
        except ValueError as error:
            raise UsageError(f"{shown!r} is not a web address: {error}.") from None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise UsageError(f"{shown!r} is not a web address.", hint="It starts with https:// and a host name.")
        if parts.username is not None or parts.password is not None:
            raise UsageError(f"The address of {parts.hostname} has a user name or password in it; leave them out.")
        target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        if any(character <= " " or character == "\x7f" for character in target + parts.hostname):
            raise UsageError(f"{shown!r} has a space or control character in it.")
        safe = target.encode("utf-8")
        quoted = "".join(chr(byte) if byte < 128 else f"%{byte:02X}" for byte in safe)
        return cls(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], quoted)

    @property
    def netloc(self) -> str:
        """Host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.target}"

    @property
    def shown(self) -> str:
        """The address for messages: without the query, which may hold a secret."""
        return f"{self.scheme}://{self.netloc}{self.target.partition('?')[0]}"

    def redirected(self, location: str) -> Address:
        """Where a redirect leads. Raises DownloadError when it changes to another scheme than https."""
        try:
            new = Address.parse(urljoin(str(self), location))
        except UsageError as error:
            raise DownloadError(f"{self.shown} redirects to an address that is refused: {error.message}") from None
        if new.scheme not in ("https", self.scheme):
            raise DownloadError(
                f"{self.shown} redirects from {self.scheme} to {new.scheme}; that is refused.",
                hint="Ask whoever runs that server to redirect to https.",
            )
        return new

    @property
    def network(self) -> Network:
        """The network that the name alone tells of; `public` for a name that tells nothing."""
        name = self.host.rstrip(".").lower()
        if name == "localhost" or name.endswith(".localhost"):
            return "this machine"
        return "local network" if name.endswith((".local", ".internal")) else network_of(name)


def network_of(address: str) -> Network:
    """Where a numeric address is; `public` for what is not a numeric address.

    Ranges that are not of the public internet count as the local network, unless they are of this machine or of one
    link, where clouds answer with credentials.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "public"
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    if parsed.is_global:
        return "public"
    if parsed.is_loopback or parsed.is_unspecified:
        return "this machine"
    return "link" if parsed.is_link_local else "local network"
