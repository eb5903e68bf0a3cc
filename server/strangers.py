"""Who may call from a browser, and under which names this server answers.

A browser is a client too, and it runs what strangers wrote. What that means here:

    the server has a name that a stranger makes       a server that listens on this machine only answers to addresses and to
    point here (DNS rebinding)                        localhost, and to --host-whitelist
    a page of another origin sends a request          it is refused, whether the browser says so by an Origin or, where it
                                                      sends none, by Sec-Fetch-Site: cross-site; unless --cors has its origin

etcd's flags of these names say "*" unless they are given: any name, any page. They can say so here.

1. --host-whitelist is about every path: a name that is on it is trusted. Who comes by another one is told what etcd tells.
2. --cors is about etcd's own paths alone: no page of another origin reads or writes keys by `PUT /key`, or looks at /_/.
3. The three fields for browsers stand in every answer of etcd's paths, as etcd has them. Without --cors they say "*", as
   etcd's do, but a page of another origin gets nothing but a refusal.

Follows etcd's embed/serve.go (accessController).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from server.answers import PLAIN_TEXT, Answer
from server.request import BadRequest, Fields, is_local_name

__all__ = ["ANYBODY", "CORS_FIELDS", "NOBODY", "Strangers", "cors_fields", "name_of"]

ANYBODY = "*"
_CORS = (
    b"Access-Control-Allow-Headers: accept, content-type, authorization\r\n"
    b"Access-Control-Allow-Methods: POST, GET, OPTIONS, PUT, DELETE\r\n"
    b"Access-Control-Allow-Origin: %b\r\n"
)
CORS_FIELDS = _CORS % ANYBODY.encode()

_ETCD_S = re.compile(rb"/(v3|v3beta)/|/(health|version|metrics)(\?|$)")

# etcd's own words, which its clients' users look up
_UNKNOWN_HOST = """
etcd received your request, but the Host header was unrecognized.

To fix this, choose one of the following options:
- Enable TLS, then any HTTPS request will be allowed.
- Add the hostname you want to use to the whitelist in settings.
  - e.g. etcd --host-whitelist "%s"

This requirement has been added to help prevent "DNS Rebinding" attacks (CVE-2018-5702).

"""


class Strangers(NamedTuple):
    """What a server says to them. origins: of pages that may call etcd's paths; hosts: names that it answers to; "*" in
    either is any. None: what is the default here."""

    origins: frozenset[str] | None = None
    hosts: frozenset[str] | None = None

    def check(self, fields: Fields, local_only: bool, target: bytes, watches: bool = False) -> Answer | None:
        """Refuses what comes from a stranger: an answer (421), or raises BadRequest (403); None for who may ask.

        local_only: the server listens on this machine alone. target: of the request. watches: the page is one that may ask for
        it.
        """
        host = fields.host
        if self.hosts is not None:
            if host is not None and not self.hosts & {ANYBODY, name_of(host)}:
                return Answer(421, (_UNKNOWN_HOST % name_of(host)).encode(), PLAIN_TEXT)
        elif host is not None and local_only and not is_local_name(host):
            raise BadRequest(
                403, "Only localhost or an IP address is accepted as Host: this server listens on this machine only."
            )
        if not fields.from_page or watches or fields.origin == b"http://" + (host or b""):
            return None
        if not (_ETCD_S.match(target) and self.allows(fields.origin)):
            raise BadRequest(403, "Pages of another origin are not answered.")
        return None

    def allows(self, origin: bytes | None) -> bool:
        """Whether --cors has this origin."""
        origins = self.origins
        return origins is not None and (
            ANYBODY in origins or (origin is not None and origin.decode("latin-1") in origins)
        )

    def dressed(self, answer: Answer, origin: bytes | None) -> Answer:
        """The answer of an etcd path with the fields for browsers that this origin is told; it has CORS_FIELDS."""
        if self.origins is None or ANYBODY in self.origins:
            return answer
        return answer._replace(headers=answer.headers.replace(CORS_FIELDS, cors_fields(origin, self)))


NOBODY = Strangers()


def cors_fields(origin: bytes | None, strangers: Strangers) -> bytes:
    """The lines for browsers that an origin is told; none if it isn't allowed."""
    return _CORS % origin if origin is not None and strangers.allows(origin) else b""


def name_of(host: bytes) -> str:
    """The name or address in a Host field, without its port and brackets."""
    name, colon, port = host.rpartition(b":")
    if not colon or not (port.isdigit() or not port) or host.endswith(b"]"):
        name = host
    return name.strip(b"[]").decode("latin-1")
