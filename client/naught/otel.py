"""OpenTelemetry for a client: a span and a duration for every call. Needs `opentelemetry-api`: `pip install
naught[otel]`.

    async with naught.connect(url, **naught.otel.instrument()) as counters: ...

    with naught.blocking.Client(url, **naught.otel.instrument()) as counters: ...

`instrument` gives the options `on_call_start` and `on_call_end`. Programs that do not import this module import
nothing of OpenTelemetry. What is recorded follows the semantic conventions for database clients, version 1.44.0
(https://opentelemetry.io/docs/specs/semconv/db/):

- A span of kind CLIENT for each call, a child of the span that is current where the call is made. Its name is method
  and cache (`incr default`).
- The histogram `db.client.operation.duration`, in seconds, with the boundaries that the conventions advise. Its value
  is the duration of the span.

Both have these attributes:

- `db.system.name`: `naught`; `db.namespace`: the cache; `db.operation.name`: the method of the wire.
- `server.address`, `server.port`: host and port of the URL. A Unix socket has its path as the address, and no port;
  `memory://` has neither.
- `error.type`, of a call that fails: the code of an error of the server (`overflow`), which is also
  `db.response.status_code`; of another exception the name of its class (`naught.errors.CallTimeout`).

The span also has `db.operation.batch.size`, the items of a call with two or more, and `naught.retries`, where the
request was sent again.

No key of a counter is recorded.

While a span is sampled, its context goes to the server as the `trace` of the request. So an entry of the slow log
(`naught slowlog`) has the `traceparent` of the call that was slow. Each message whose span differs from that of the
message before costs the server about one small request more. Calls that share a message share the span of the first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, TypedDict

from naught._version import __version__
from naught.core.hooks import CallHook, ObservedCall
from naught.errors import CommandError
from naught.url import Address, TcpAddress, UnixAddress
from naught.wire.limits import DEFAULT_CACHE

try:
    from opentelemetry import metrics, trace
except ImportError as missing:
    raise ImportError("naught.otel needs opentelemetry-api; pip install naught[otel] installs it") from missing

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

__all__ = ["ConnectOptions", "instrument"]

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

BUCKET_BOUNDARIES: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Seconds. What the conventions advise for `db.client.operation.duration`."""

Attributes = Mapping[str, str | int]


class ConnectOptions(TypedDict):
    """Options of `naught.connect` and `naught.blocking.Client`."""

    on_call_start: CallHook
    on_call_end: CallHook


def instrument(
    *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> ConnectOptions:
    """The options of a client whose calls make spans and durations. Several clients can share them.

    A provider that is left out is the global one, as it is set when the first call is made or later.
    """
    telemetry = _Telemetry(tracer_provider, meter_provider)
    return {"on_call_start": telemetry.start, "on_call_end": telemetry.end}


class _Begun(NamedTuple):
    """What the hook of the start leaves in the call for that of the end."""

    span: Span
    started_ns: int  # since 1970
    attributes: Attributes  # of the call's duration


class _Telemetry:
    """The two hooks."""

    def __init__(self, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None) -> None:
        self._tracer: Final = trace.get_tracer("naught", __version__, tracer_provider, SCHEMA_URL)
        meter = metrics.get_meter("naught", __version__, meter_provider, SCHEMA_URL)
        self._duration: Final = meter.create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Duration of database client operations.",
            explicit_bucket_boundaries_advisory=BUCKET_BOUNDARIES,
        )
        self._of_servers: dict[Address, Attributes] = {}  # what all calls to a server have

    def start(self, call: ObservedCall) -> None:
        """The hook `on_call_start`."""
        server = self._of_servers.get(call.address)
        if server is None:
            server = self._of_servers[call.address] = _attributes_of(call.address)
        attributes: dict[str, str | int] = {**server, "db.operation.name": call.method}
        of_span = attributes
        if call.batch_size > 1:
            of_span = attributes | {"db.operation.batch.size": call.batch_size}
        started_ns = time.time_ns()
        span = self._tracer.start_span(
            f"{call.method} {server['db.namespace']}",
            kind=trace.SpanKind.CLIENT,
            attributes=of_span,
            start_time=started_ns,
        )
        call.state = _Begun(span, started_ns, attributes)
        context = span.get_span_context()
        if context.is_valid and context.trace_flags.sampled:
            call.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def end(self, call: ObservedCall) -> None:
        """The hook `on_call_end`."""
        begun: _Begun | None = call.state
        if begun is None:  # the hook of the start has raised
            return
        span, started_ns, attributes = begun
        if call.retries:
            span.set_attribute("naught.retries", call.retries)
        error = call.error
        if error is not None:
            failure = _attributes_of_error(error)
            attributes = {**attributes, **failure}
            span.set_attributes(failure)
            span.set_status(trace.Status(trace.StatusCode.ERROR, str(error) or None))
        span.end(started_ns + round(call.duration * 1_000_000_000))
        self._duration.record(call.duration, attributes)


def _attributes_of(address: Address) -> Attributes:
    attributes: dict[str, str | int] = {
        "db.system.name": "naught",
        "db.namespace": address.cache or DEFAULT_CACHE,
    }
    if isinstance(address, TcpAddress):
        attributes |= {"server.address": address.host, "server.port": address.port}
    elif isinstance(address, UnixAddress):
        attributes["server.address"] = address.path
    return attributes


def _attributes_of_error(error: BaseException) -> dict[str, str]:
    if isinstance(error, CommandError):
        return {"error.type": error.code, "db.response.status_code": error.code}
    kind = type(error)
    return {"error.type": f"{kind.__module__}.{kind.__qualname__}"}
