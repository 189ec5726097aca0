"""One run: every source asked about, every outcome written, and an end where going on is of no use."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import orjson

from server.client import AsyncClient, Call, InferenceError, calls
from server.client.exchange import BEYOND_WAITING
from server.predict.engine import say
from server.predict.options import PredictOptions
from server.predict.ordered import in_order
from server.predict.output import Output
from server.predict.pictures import PictureFolder
from server.predict.progress import Count, open_progress
from server.predict.record import Fields
from server.predict.sources import Source, SourceError

HOPELESS = BEYOND_WAITING | {
    "unreachable",
    "unauthorized",
    "not_found",
    "model_not_found",
    "invalid_parameter",
    "unknown_field",
}
"""Codes of what will be the same for every other source."""


class HopelessError(Exception):
    """The run has ended before its end: `cause` happened to `source` and would happen to all others."""

    def __init__(self, source: str, cause: InferenceError) -> None:
        super().__init__(source)
        self.source = source
        self.cause = cause


class Run:
    """Made once, run once."""

    def __init__(
        self, options: PredictOptions, client: AsyncClient, output: Output, pictures: PictureFolder | None
    ) -> None:
        self._options = options
        self._client = client
        self._output = output
        self._pictures = pictures
        self.num_done = self.num_failed = self.num_skipped = 0

    async def go(self) -> None:
        """To the end. Raises HopelessError, OSError where the output cannot be written."""
        options = self._options
        progress = open_progress(is_quiet=options.is_quiet)
        count = Count(options.sources if options.sources.is_countable and not options.is_quiet else None)
        results = in_order(self._unfinished(), self._ask, options.concurrency)
        try:
            async for fields in results:
                self._output.write(fields)
                self.num_done += 1
                self.num_failed += "error" in fields
                num_total = None if count.total is None else count.total - self.num_skipped
                progress.show(self.num_done, self.num_failed, num_total)
        finally:
            await results.aclose()
            progress.close()
        if not options.is_quiet:
            skipped = f", {self.num_skipped} were there already" if self.num_skipped else ""
            say(f"{self.num_done} images, {self.num_failed} failed{skipped}")

    def _unfinished(self) -> Iterator[Source]:
        for source in self._options.sources:
            if source.text in self._output.done:
                self.num_skipped += 1
            else:
                yield source

    async def _ask(self, source: Source) -> Fields:
        try:
            image = await asyncio.to_thread(source.read)
            while True:
                try:
                    return {"source": source.text, **await self._answer(source, image)}
                except InferenceError as error:
                    if error.code != "model_loading":  # its download may take longer than any picture
                        raise
        except SourceError as error:
            return _failed(source, error.code, error.message, None)
        except InferenceError as error:
            if error.code in HOPELESS:
                raise HopelessError(source.text, error) from error
            return _failed(source, error.code, error.message, error.request_id)

    async def _answer(self, source: Source, image: bytes | str) -> Fields:
        model, parameters = self._options.model, self._options.parameters
        if self._pictures is None:
            return await self._client.run(
                Call("POST", "/inference", _fields, calls.inference_content(image, model, parameters))
            )
        drawn = await self._client.run(calls.picture(image, model, "jpeg", parameters))
        path = await asyncio.to_thread(self._pictures.save, source, drawn)
        return {"model_id": model, "picture": path}


def _fields(response: httpx.Response) -> Mapping[str, Any]:
    """The reply as it is: a newer server may say more than is declared."""
    try:
        fields = orjson.loads(response.content)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise calls.unexpected(response, "is no JSON object")
    return fields


def _failed(source: Source, code: str, message: str, request_id: str | None) -> Fields:
    return {"source": source.text, "error": {"code": code, "message": message, "request_id": request_id}}
