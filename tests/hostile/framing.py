"""Requests whose framing two parsers could read differently, or that are none: as bytes, with the statuses allowed.

Each ends with a request that only a parser which has lost its place would see: `SMUGGLED`. Nothing of them may have a
2xx, and nothing but one refusal may come back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

SMUGGLED = b"GET /livez HTTP/1.1\r\nHost: smuggled\r\n\r\n"
_LINE = b"POST /inference?model_id=shapes-detect HTTP/1.1\r\n"
_HEAD = _LINE + b"Host: x\r\nContent-Type: image/jpeg\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
_END = b"0\r\n\r\n"

LENGTHS: Mapping[str, bytes] = {
    "different lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "equal lengths": b"Content-Length: 5\r\nContent-Length: 5\r\n",
    "list of lengths": b"Content-Length: 5,5\r\n",
    "negative length": b"Content-Length: -1\r\n",
    "length with plus": b"Content-Length: +5\r\n",
    "hexadecimal length": b"Content-Length: 0x5\r\n",
    "length of 23 digits": b"Content-Length: 99999999999999999999999\r\n",
    "length of 2**64 + 5": b"Content-Length: 18446744073709551621\r\n",
    "length with text": b"Content-Length: 5abc\r\n",
    "length with a space inside": b"Content-Length: 5 5\r\n",
    "length as a fraction": b"Content-Length: 5.0\r\n",
    "length with underscore": b"Content-Length: 1_0\r\n",
    "empty length": b"Content-Length:\r\n",
    "length in other digits": "Content-Length: ５\r\n".encode(),
}
CODINGS: Mapping[str, bytes] = {
    "length and chunked": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "chunked and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "chunked and identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "identity and chunked": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
    "xchunked": b"Transfer-Encoding: xchunked\r\n",
    "chunkedx": b"Transfer-Encoding: chunkedx\r\n",
    "chunked not last": b"Transfer-Encoding: chunked, identity\r\n",
    "chunked twice in a list": b"Transfer-Encoding: chunked, chunked\r\n",
    "gzip then chunked": b"Transfer-Encoding: gzip, chunked\r\n",
    "identity then chunked": b"Transfer-Encoding: identity, chunked\r\n",
    "gzip alone": b"Transfer-Encoding: gzip\r\n",
    "identity alone": b"Transfer-Encoding: identity\r\n",
    "quoted chunked": b'Transfer-Encoding: "chunked"\r\n',
    "chunked with vertical tab": b"Transfer-Encoding: \x0bchunked\r\n",
    "chunked with a parameter": b"Transfer-Encoding: chunked;q=1\r\n",
    "empty coding": b"Transfer-Encoding:\r\n",
    "space before the colon": b"Transfer-Encoding : chunked\r\n",
    "tab before the colon": b"Transfer-Encoding\t: chunked\r\n",
    "coding on a folded line": b"Transfer-Encoding:\r\n chunked\r\n",
    "space before the name": b" Transfer-Encoding: chunked\r\n",
}
HEADERS: Mapping[str, bytes] = {
    "folded value": b"A: b\r\n c\r\n",
    "bare LF between": b"A: b\nC: d\r\n",
    "bare CR in a value": b"A: b\rC: d\r\n",
    "NUL in a value": b"A: b\x00c\r\n",
    "NUL in a name": b"A\x00: b\r\n",
    "DEL in a value": b"A: \x7f\r\n",
    "control in a value": b"A: \x01\r\n",
    "no colon": b"A\r\n",
    "no name": b": b\r\n",
    "space in a name": b"A b: c\r\n",
    "brackets in a name": b"A[1]: c\r\n",
    "name beyond ASCII": "Ä: c\r\n".encode(),
    "two hosts": b"Host: y\r\n",
}
LINES: Mapping[str, bytes] = {
    "bad method": b"G@T /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "small letters": b"get /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "unknown method": b"FOO /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: x\r\n\r\n",
    "space in the target": b"GET /li vez HTTP/1.1\r\nHost: x\r\n\r\n",
    "tab in the target": b"GET /li\tvez HTTP/1.1\r\nHost: x\r\n\r\n",
    "byte beyond ASCII in the target": b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in the target": b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    "no slash": b"GET livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "authority for a target": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "absolute without a path": b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "version 0.9": b"GET /livez\r\n\r\n",
    "version 0.9 said": b"GET /livez HTTP/0.9\r\nHost: x\r\n\r\n",
    "version 1.2": b"GET /livez HTTP/1.2\r\nHost: x\r\n\r\n",
    "version 2.0": b"GET /livez HTTP/2.0\r\nHost: x\r\n\r\n",
    "version 9.9": b"GET /livez HTTP/9.9\r\nHost: x\r\n\r\n",
    "version 1.10": b"GET /livez HTTP/1.10\r\nHost: x\r\n\r\n",
    "version in small letters": b"GET /livez http/1.1\r\nHost: x\r\n\r\n",
    "another protocol": b"GET /livez ICE/1.0\r\nHost: x\r\n\r\n",
    "bare LFs": b"GET /livez HTTP/1.1\nHost: x\n\n",
    "bare CRs": b"GET /livez HTTP/1.1\rHost: x\r\r",
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "hello of TLS": bytes.fromhex("16030100c8010000c40303") + bytes(64),
    "a reply": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "spaces first": b"   GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "chunked in version 1.0": b"POST /inference HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}
CHUNKS: Mapping[str, bytes] = {
    "size with 0x": b"0x5\r\nhello\r\n" + _END,
    "size with plus": b"+5\r\nhello\r\n" + _END,
    "size with minus": b"-5\r\nhello\r\n" + _END,
    "size with a space before": b" 5\r\nhello\r\n" + _END,
    "size with a space behind": b"5 \r\nhello\r\n" + _END,
    "size beyond 64 bits": b"10000000000000005\r\nhello\r\n" + _END,
    "size of letters": b"xyz\r\nhello\r\n" + _END,
    "size with underscore": b"0_5\r\nhello\r\n" + _END,
    "no size": b"\r\nhello\r\n" + _END,
    "size that ends with LF": b"5\nhello\r\n" + _END,
    "size that ends with CR": b"5\rhello\r\n" + _END,
    "chunk without its end": b"5\r\nhello" + _END,
    "chunk longer than its size": b"5\r\nhello world\r\n" + _END,
    "chunk that ends with LF": b"5\r\nhello\n" + _END,
    "LF in an extension": b"5;a\nb\r\nhello\r\n" + _END,
    "CR in an extension": b"5;a\rb\r\nhello\r\n" + _END,
    "NUL in an extension": b"5;a\x00\r\nhello\r\n" + _END,
    "folded trailer": b"5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n",
    "trailer with NUL": b"5\r\nhello\r\n0\r\nA: \x00\r\n\r\n",
}


def framing_cases() -> Iterator[tuple[str, bytes]]:
    """Each with its name."""
    for name, lines in {**LENGTHS, **CODINGS, **HEADERS}.items():
        body = b"5\r\nhello\r\n" + _END if b"ransfer" in lines else b"hello"
        yield name, _HEAD + lines + b"\r\n" + body + SMUGGLED
    for name, whole in LINES.items():
        yield name, whole + SMUGGLED
    for name, body in CHUNKS.items():
        yield name, _CHUNKED + body + SMUGGLED
