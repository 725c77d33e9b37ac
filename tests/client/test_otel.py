"""What `naught.otel` records, read from the SDK's exporter and reader in memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.semconv.attributes import db_attributes, error_attributes, server_attributes
from opentelemetry.semconv.metrics import db_metrics
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import SpanKind, StatusCode

import naught
import naught.otel
from naught import ObservedCall, blocking
from naught.core.hooks import CallHook
from naught.url import parse_url
from naught.wire.traceparent import is_traceparent
from support.client_helpers import ScriptedServer, connected
from support.two_clients import KINDS, connect

SYSTEM = {"db.system.name": "naught", "db.namespace": "default"}


class Telemetry:
    """Providers whose spans and metrics the test reads, and the options of a client that uses them."""

    def __init__(self, sampler: Any = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(sampler=sampler)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader])
        self.options = naught.otel.instrument(tracer_provider=self.tracers, meter_provider=self.meters)

    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended since the last call, in that order."""
        spans = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return spans

    def histogram(self) -> Any:
        """The only metric there is."""
        data = self._reader.get_metrics_data()
        assert data is not None
        ((metric,),) = (scope.metrics for resource in data.resource_metrics for scope in resource.scope_metrics)
        return metric

    def end(self) -> None:
        self.tracers.shutdown()
        self.meters.shutdown()


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    yield telemetry
    telemetry.end()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_makes_a_span(kind: str, telemetry: Telemetry) -> None:
    async with connect(kind, "memory://", **telemetry.options) as counters:
        await counters.incr("a")
        await counters.apply(["a", "b", "c"], 1)
        await counters.get_many(["a"])
    one, many, single = telemetry.spans()
    assert (one.name, one.kind, one.parent) == ("incr default", SpanKind.CLIENT, None)
    assert one.attributes == SYSTEM | {"db.operation.name": "incr"}
    assert one.status.status_code is StatusCode.UNSET
    assert many.attributes == SYSTEM | {"db.operation.name": "apply", "db.operation.batch.size": 3}
    assert single.attributes == SYSTEM | {"db.operation.name": "get_many"}, "one item is no batch"
    scope = one.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.version, scope.schema_url) == ("naught", naught.__version__, naught.otel.SCHEMA_URL)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_histogram(kind: str, telemetry: Telemetry) -> None:
    async with connect(kind, "memory://", **telemetry.options) as counters:
        for _ in range(3):
            await counters.incr("a")
        with pytest.raises(naught.CounterUnderflow):
            await counters.decr("b", strict=True)
    metric = telemetry.histogram()
    assert (metric.name, metric.unit) == ("db.client.operation.duration", "s")
    of_incr, of_decr = sorted(metric.data.data_points, key=lambda point: -point.count)
    assert (of_incr.count, of_decr.count) == (3, 1)
    assert of_incr.explicit_bounds == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
    assert of_incr.attributes == SYSTEM | {"db.operation.name": "incr"}
    failure = {"error.type": "underflow", "db.response.status_code": "underflow"}
    assert of_decr.attributes == SYSTEM | {"db.operation.name": "decr"} | failure
    spans = [span for span in telemetry.spans() if span.name == "incr default"]
    lasted = [(span.end_time or 0) - (span.start_time or 0) for span in spans]
    assert sum(lasted) / 1e9 == pytest.approx(of_incr.sum, abs=1e-8), "spans and durations agree"


def attributes_of(url: str, telemetry: Telemetry) -> dict[str, Any]:
    """The attributes of the span of a call to this server."""
    call = ObservedCall("get", 1, parse_url(url))
    telemetry.options["on_call_start"](call)
    call.note_end(0.5, None)
    telemetry.options["on_call_end"](call)
    (span,) = telemetry.spans()
    assert span.attributes is not None
    return {name: value for name, value in span.attributes.items() if not name.startswith("db.operation")}


@pytest.mark.parametrize(
    ("url", "attributes"),
    [
        ("naught://db.test", {"server.address": "db.test", "server.port": 6480}),
        (
            "naught://[::1]:7000/orders",
            {"server.address": "::1", "server.port": 7000, "db.namespace": "orders"},
        ),
        (
            "naught+unix:///run/naught.sock?cache=orders",
            {"server.address": "/run/naught.sock", "db.namespace": "orders"},
        ),
        ("memory://", {}),
    ],
)
def test_which_server_it_was(url: str, attributes: dict[str, Any], telemetry: Telemetry) -> None:
    assert attributes_of(url, telemetry) == SYSTEM | attributes


@pytest.mark.parametrize(
    ("error", "attributes"),
    [
        (naught.CacheFull("so"), {"error.type": "full", "db.response.status_code": "full"}),
        (naught.CallTimeout("so"), {"error.type": "naught.errors.CallTimeout"}),
        (naught.OutcomeUnknown("so"), {"error.type": "naught.errors.OutcomeUnknown"}),
        (asyncio.CancelledError(), {"error.type": "asyncio.exceptions.CancelledError"}),
    ],
    ids=repr,
)
def test_a_call_that_fails(error: BaseException, attributes: dict[str, str], telemetry: Telemetry) -> None:
    call = ObservedCall("incr", 1, parse_url("memory://"))
    telemetry.options["on_call_start"](call)
    call.note_end(0.25, error)
    telemetry.options["on_call_end"](call)
    (span,) = telemetry.spans()
    assert span.attributes == SYSTEM | {"db.operation.name": "incr"} | attributes
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, str(error) or None)
    assert (span.end_time or 0) - (span.start_time or 0) == 250_000_000
    (point,) = telemetry.histogram().data.data_points
    assert (point.count, point.sum) == (1, 0.25)
    assert point.attributes == span.attributes


def test_retries_are_told(telemetry: Telemetry) -> None:
    call = ObservedCall("incr", 1, parse_url("memory://"))
    telemetry.options["on_call_start"](call)
    call.note_sent_again()
    call.note_sent_again()
    call.note_end(0.1, None)
    telemetry.options["on_call_end"](call)
    (span,) = telemetry.spans()
    assert span.attributes == SYSTEM | {"db.operation.name": "incr", "naught.retries": 2}


def test_an_end_without_a_start_is_nothing(telemetry: Telemetry) -> None:
    """The hook of the start may have raised."""
    call = ObservedCall("incr", 1, parse_url("memory://"))
    call.note_end(0.1, None)
    telemetry.options["on_call_end"](call)
    assert telemetry.spans() == []


async def test_a_span_is_the_child_of_the_one_that_is_current(telemetry: Telemetry) -> None:
    tracer = telemetry.tracers.get_tracer("of the program")

    async def work(name: str) -> None:
        with tracer.start_as_current_span(name):
            await counters.incr("a")

    async with naught.connect("memory://", **telemetry.options) as counters:
        await asyncio.gather(work("x"), work("y"))
    spans = telemetry.spans()
    parents = {span.context.span_id: span.name for span in spans if span.name in {"x", "y"}}
    children = [span for span in spans if span.name == "incr default"]
    assert sorted(parents[span.parent.span_id] for span in children if span.parent is not None) == ["x", "y"]


def context_of(span: ReadableSpan) -> str:
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{int(span.context.trace_flags):02x}"


def options_with_start(telemetry: Telemetry, then: CallHook) -> dict[str, Any]:
    """The options of a client, with another hook after that of the start."""

    def on_start(call: ObservedCall) -> None:
        telemetry.options["on_call_start"](call)
        then(call)

    return {**telemetry.options, "on_call_start": on_start}


async def test_the_context_of_the_span_goes_to_the_server(telemetry: Telemetry) -> None:
    async with ScriptedServer() as server:
        counters, peer = await connected(naught.connect(server.url, **telemetry.options), server)
        calling = asyncio.ensure_future(counters.get("a"))
        kind, method, (traceparent,) = await peer.request()
        assert (kind, method) == (2, "trace")
        _, msgid, _, _ = await peer.request()
        peer.reply(msgid, 1)
        await calling
        (span,) = telemetry.spans()
        assert traceparent == context_of(span)
        assert is_traceparent(traceparent)
        peer.close()
        await counters.close()


def test_a_span_that_is_not_sampled_is_not_sent() -> None:
    telemetry = Telemetry(ALWAYS_OFF)
    seen: list[str | None] = []
    options = options_with_start(telemetry, lambda call: seen.append(call.traceparent))
    with blocking.Client("memory://", **options) as counters:
        counters.incr("a")
    assert (seen, telemetry.spans()) == ([None], [])
    assert telemetry.histogram().data.data_points[0].count == 1, "durations are recorded all the same"
    telemetry.end()


def test_one_set_of_options_serves_several_clients(telemetry: Telemetry) -> None:
    with (
        blocking.Client("memory://a", **telemetry.options) as one,
        blocking.Client("memory://b", **telemetry.options) as other,
    ):
        one.incr("a")
        other.incr("a")
    assert [span.name for span in telemetry.spans()] == ["incr default", "incr default"]


def test_without_providers_of_its_own_it_uses_the_global_ones() -> None:
    """Which do nothing here, as in a program that has set none."""
    with blocking.Client("memory://", **naught.otel.instrument()) as counters:
        assert counters.incr("a") == 1


def test_the_names_are_those_of_the_conventions() -> None:
    assert {
        db_attributes.DB_SYSTEM_NAME,
        db_attributes.DB_NAMESPACE,
        db_attributes.DB_OPERATION_NAME,
        db_attributes.DB_OPERATION_BATCH_SIZE,
        db_attributes.DB_RESPONSE_STATUS_CODE,
        error_attributes.ERROR_TYPE,
        server_attributes.SERVER_ADDRESS,
        server_attributes.SERVER_PORT,
    } == {
        *("db.system.name", "db.namespace", "db.operation.name", "db.operation.batch.size"),
        *("db.response.status_code", "error.type", "server.address", "server.port"),
    }
    assert naught.otel.SCHEMA_URL in {version.value for version in Schemas}
    assert db_metrics.DB_CLIENT_OPERATION_DURATION == "db.client.operation.duration"
    text = naught.otel.__doc__ or ""
    for name in ("db.operation.batch.size", "db.response.status_code", "error.type", "server.port"):
        assert f"`{name}`" in text


def test_the_client_imports_it_only_when_it_is_asked_for() -> None:
    """`import naught` imports no opentelemetry. Where that is missing, `naught.otel` says what to install."""
    program = """
import sys
import naught, naught.cli.counters
assert not [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]
sys.modules["opentelemetry"] = None
try:
    import naught.otel
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "naught.otel needs opentelemetry-api; pip install naught[otel] installs it\n"
