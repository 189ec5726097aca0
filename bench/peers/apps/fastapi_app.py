"""FastAPI under uvicorn: several processes, no batching (it has none); a network runs in one thread of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request, Response

from bench.peers.apps.answering import make_answer, read_settings


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the network before the first request."""
    app.state.thread = ThreadPoolExecutor(1)
    app.state.answer = make_answer(read_settings())
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/predict")
async def predict(request: Request) -> Response:
    """The body is the picture."""
    jpeg = await request.body()
    loop = asyncio.get_running_loop()
    (answer,) = await loop.run_in_executor(app.state.thread, app.state.answer, [jpeg])
    return Response(answer, media_type="application/json")


if __name__ == "__main__":
    settings = read_settings()
    uvicorn.run(
        "bench.peers.apps.fastapi_app:app",
        host="127.0.0.1",
        port=settings.port,
        workers=settings.workers,
        access_log=False,
        timeout_worker_healthcheck=600,  # a process that imports torch does not answer its parent for a while
    )
