"""Hosts and ports as text: IPv4, names, and IPv6, whose addresses stand in brackets (RFC 3986, section 3.2.2)."""

from __future__ import annotations

import contextlib
import socket
from urllib.parse import urlsplit

__all__ = ["family", "netloc", "parse_url", "url_of"]


def parse_url(url: str) -> tuple[str, int]:
    """The host and port of "http://host:port", which has nothing more. Raises ValueError."""
    with contextlib.suppress(ValueError, TypeError, AttributeError):  # of urlsplit: brackets, ports, what is no str
        parts = urlsplit(url)
        rest = (parts.path.rstrip("/"), parts.query, parts.fragment, parts.username)
        if parts.scheme == "http" and parts.hostname and parts.port and not any(rest):
            parts.hostname.encode(
                "idna"
            )  # raises for what no name has: nothing between two dots, or more than 63 bytes
            if not parts.hostname.isprintable() or " " in parts.hostname:
                raise ValueError
            return parts.hostname, parts.port
    raise ValueError(f"a node's URL is http://host:port, and this is {url!r}")


def netloc(host: str, port: int) -> str:
    """ "127.0.0.1:3379", "[::1]:3379"."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url_of(host: str, port: int) -> str:
    """ "http://127.0.0.1:3379", "http://[::1]:3379"."""
    return f"http://{netloc(host, port)}"


def family(host: str) -> socket.AddressFamily:
    """What a socket that is bound to `host` has to be: AF_INET6 for an IPv6 address, AF_INET for all else."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET
