"""FastAPI with several workers: a limit on the requests in flight and a quota for each user, across all workers.

    naught-server &
    uvicorn --app-dir examples --workers 2 fastapi_app:app
    curl -i -H "X-User: ann" http://127.0.0.1:8000/render

Each worker has one client for all its requests. If a worker is killed, what it had in flight is given back.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Request

import naught
import naught.asgi

URL = os.environ.get("NAUGHT_URL", "naught://localhost:6480")
CALLS_PER_MINUTE = 5


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The client of this worker, from its start to its end."""
    async with naught.connect(URL) as counters:
        app.state.counters = counters
        yield


app = FastAPI(lifespan=lifespan)
# Beyond 100 requests in flight in all workers together, the answer is 503 with Retry-After.
app.add_middleware(naught.asgi.InFlightLimit, url=URL, limit=100, name="requests")


async def within_quota(request: Request, x_user: Annotated[str, Header()]) -> str:
    """Refuse a user who has had enough for this minute."""
    quota = request.app.state.counters.quota(f"calls:{x_user}", limit=CALLS_PER_MINUTE, per=60)
    if not await quota.use():
        seconds = ceil(await quota.retry_after())
        raise HTTPException(429, "too many calls", headers={"Retry-After": str(seconds)})
    return x_user


@app.get("/render")
async def render(request: Request, user: Annotated[str, Depends(within_quota)]) -> dict[str, object]:
    """At most four pictures at a time are rendered, whichever workers their requests came to."""
    async with request.app.state.counters.semaphore("gpu", limit=4):
        return {"user": user, "worker": os.getpid()}
