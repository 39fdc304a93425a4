"""The text of a document: readable JSON with a checksum at its end."""

import hashlib
import json

from jaxdeep.saving.values import Json


def sealed(document: dict[str, Json]) -> bytes:
    """The document, and at its end a checksum of all that comes before."""
    lines = [f"  {json.dumps(name)}: {_text(value, 2)}" for name, value in document.items()]
    head = ("{\n" + ",\n".join(lines)).encode()
    return head + f',\n  "sha256": "{hashlib.sha256(head).hexdigest()}"\n}}\n'.encode()


def _text(node: Json, indent: int) -> str:
    """JSON with a line for each entry, but for what fits on one."""
    flat = json.dumps(node, allow_nan=False)
    if not isinstance(node, (dict, list)) or not node or len(flat) + indent <= 100:
        return flat
    if isinstance(node, dict):
        inside = [f"{json.dumps(name)}: {_text(value, indent + 2)}" for name, value in node.items()]
    else:
        inside = [_text(value, indent + 2) for value in node]
    first, last = ("{", "}") if isinstance(node, dict) else ("[", "]")
    gap = "\n" + " " * (indent + 2)
    return first + gap + f",{gap}".join(inside) + "\n" + " " * indent + last
