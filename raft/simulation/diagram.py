"""A trace as a sequence diagram: for Mermaid, which many pages and editors draw, and as an SVG picture of its own.

In the picture time runs downwards, each node is a vertical line, a message is an arrow from when it was sent to when it
arrived, and one that was lost is dashed and ends in a cross.
"""

from __future__ import annotations

from xml.sax.saxutils import escape

from raft.simulation.trace import Arrow, Note, Trace

__all__ = ["to_mermaid", "to_svg"]

_COLUMN, _MARGIN, _TOP = 260, 90, 50
_UNITS_PER_PIXEL = 12


def to_mermaid(trace: Trace) -> str:
    """The trace in Mermaid's language, each message where it ended."""
    lines = ["sequenceDiagram"]
    lines += [f"    participant {node} as node {node}" for node in sorted(trace.ids)]
    for item in trace.drawn:
        if isinstance(item, Arrow):
            arrow = "--x" if item.lost else "->>"
            lines.append(f"    {item.source}{arrow}{item.target}: {_plain(item.text)}")
        else:
            lines.append(f"    Note over {item.node}: {_plain(item.text)}")
    return "\n".join([*lines, ""])


def _plain(text: str) -> str:
    """Mermaid ends a statement at a semicolon, and takes a hash for the start of a character's number."""
    return text.replace(";", ",").replace("#", "no. ")


def to_svg(trace: Trace) -> str:
    """The trace as an SVG document."""
    columns = {node: _MARGIN + _COLUMN * position for position, node in enumerate(sorted(trace.ids))}
    ends = [item.ended if isinstance(item, Arrow) else item.at for item in trace.drawn]
    begin = min((item.sent if isinstance(item, Arrow) else item.at for item in trace.drawn), default=0)
    height = _TOP + (max(ends, default=0) - begin) // _UNITS_PER_PIXEL + 60
    width = 2 * _MARGIN + _COLUMN * max(0, len(columns) - 1) + 200
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        'font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<marker id="head" orient="auto" markerWidth="8" markerHeight="8" refX="7" refY="4">'
        '<path d="M0,0 L8,4 L0,8 z"/></marker>',
    ]
    for node, x in columns.items():
        parts.append(f'<text x="{x}" y="20" text-anchor="middle" font-weight="bold">node {node}</text>')
        parts.append(f'<line x1="{x}" y1="30" x2="{x}" y2="{height - 10}" stroke="silver"/>')
    for item in trace.drawn:
        if isinstance(item, Arrow):
            parts.append(_arrow(item, columns, begin))
        else:
            parts.append(_note(item, columns, begin))
    return "\n".join([*parts, "</svg>", ""])


def _y(at: int, begin: int) -> int:
    return _TOP + (at - begin) // _UNITS_PER_PIXEL


def _arrow(arrow: Arrow, columns: dict[int, int], begin: int) -> str:
    x1, x2 = columns.get(arrow.source, 0), columns.get(arrow.target, 0)
    y1, y2 = _y(arrow.sent, begin), _y(arrow.ended, begin)
    middle = f'<text x="{(x1 + x2) // 2}" y="{(y1 + y2) // 2 - 3}" text-anchor="middle">{escape(arrow.text)}</text>'
    if arrow.lost:
        line = f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="firebrick" stroke-dasharray="4 3"/>'
        return line + f'<text x="{x2}" y="{y2 + 4}" text-anchor="middle" fill="firebrick">&#215;</text>' + middle
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="black" marker-end="url(#head)"/>' + middle


def _note(note: Note, columns: dict[int, int], begin: int) -> str:
    x, y = columns.get(note.node, 0), _y(note.at, begin)
    return f'<circle cx="{x}" cy="{y}" r="4" fill="steelblue"/><text x="{x + 7}" y="{y + 4}">{escape(note.text)}</text>'
