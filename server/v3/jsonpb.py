"""The JSON of etcd's gateway, as everybody calls it: `parse(cls, body)` and `render(message)`.

Two forms of it are equal by test: server/v3/plain_json.py, which has the rules, and server/v3/fast_json.py, which asks the
plain one whenever it is in doubt. METCD_PLAIN=1 leaves the fast one out.
"""

from __future__ import annotations

from engines.env import plain_everywhere
from server.v3.fast_json import parse_fast, render_fast
from server.v3.plain_json import parse_plain, render_plain

__all__ = ["parse", "render"]

parse = parse_plain if plain_everywhere() else parse_fast
render = render_plain if plain_everywhere() else render_fast
