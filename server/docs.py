"""`GET /docs`: the OpenAPI description as one page that needs nothing from the network."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: .9em ui-monospace, monospace; }
pre { padding: 1rem; overflow-x: auto; border: 1px solid #8886; border-radius: .4rem; }
section { border-top: 1px solid #8886; margin-top: 1.5rem; padding-top: .5rem; }
td, th { text-align: left; vertical-align: top; padding: .15rem 1rem .15rem 0; }
b.method { display: inline-block; min-width: 3.5rem; }
"""
_EXAMPLES = """curl -F model_id=shapes-detect -F image=@picture.jpg http://HOST/inference

curl --data-binary @picture.jpg -H 'Content-Type: image/jpeg' 'http://HOST/inference?model_id=shapes-detect&amp;confidence=0.5'

curl -H 'Content-Type: application/json' \\
     -d '{"model_id": "yolov8n", "image_url": "https://...", "parameters": {"classes": [0, 2]}}' http://HOST/inference"""


def docs_page(description: Mapping[str, Any]) -> str:
    """HTML for the OpenAPI document `description`."""
    title = escape(description["info"]["title"])
    sections = [
        _section(path, method, operation)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
        if method != "parameters"
    ]
    schemas = [_schema(name, schema) for name, schema in description["components"]["schemas"].items()]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{escape(description['info']['description'])} "
        f'For programs: <a href="openapi.json">openapi.json</a>.</p>'
        f"<pre>{_EXAMPLES}</pre>{''.join(sections)}<h2>Fields</h2>{''.join(schemas)}</html>"
    )


def _section(path: str, method: str, operation: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{status}</code><td>{escape(response['description'])}"
        for status, response in operation["responses"].items()
    )
    return (
        f'<section><h3><b class="method">{method.upper()}</b> <code>{escape(path)}</code></h3>'
        f"<p>{escape(operation['summary'])}</p><table>{rows}</table></section>"
    )


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code><td>{escape(_kind(properties))}<td>{escape(_text(properties))}"
        for field, properties in schema["properties"].items()
    )
    return f"<section><h3>{escape(name)}</h3><table>{rows}</table></section>"


def _kind(properties: Mapping[str, Any]) -> str:
    kinds = [
        part.get("type", part.get("$ref", "").rpartition("/")[2])
        for part in properties.get("anyOf", [properties])
    ]
    return " or ".join(kind for kind in kinds if kind)


def _text(properties: Mapping[str, Any]) -> str:
    limits = [
        f"{name} {properties[name]}"
        for name in ("minimum", "maximum", "default")
        if properties.get(name) is not None
    ]
    return " ".join([properties.get("description", ""), f"({', '.join(limits)})" if limits else ""]).strip()
