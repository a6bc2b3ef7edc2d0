"""OTLP destinations against a strict receiver: what arrives, and what happens when it does not."""
import pytest

import harness
import otlp_receiver
import workload

PROTOCOLS = ["grpc", "http"]
pytestmark = pytest.mark.parametrize("protocol", PROTOCOLS)


@pytest.fixture
def receiver(protocol):
    started = []

    def start(*script, **more):
        one = otlp_receiver.Receiver(protocol, script=script, **more)
        started.append(one)
        return one

    yield start
    problems = []
    for one in started:
        one.stop()
        problems += one.problems
    assert not problems, problems[:5]


def exporter(receiver, protocol, **more):
    return {"otlp": {"endpoint": receiver.endpoint, "protocol": protocol, "timeout": "2s", **more}}


def paths(receiver):
    return sorted(a.value.string_value for _, span in receiver.spans for a in span.attributes
                  if a.key == "url.path")


def drive(processes, agent, exporters, requests=20, config=None, env=None):
    """`requests` requests to a server under the agent; the agent, and the paths that must arrive."""
    server, port = processes.python()
    olly = agent([server.pid], {"exporters": exporters, **(config or {})}, env=env)
    truth = workload.keep_alive(port, [("GET", f"/ok/otlp-{n}", None) for n in range(requests)])
    assert all(e.status == 200 for e in truth)
    return olly, sorted(f"/ok/otlp-{n}" for n in range(requests))


def arrive(receiver, want, seconds=40):
    harness.wait_until(lambda: len(receiver.spans) >= len(want), f"{len(want)} spans arrive", seconds)
    assert paths(receiver) == want  # each once


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_spans_arrive(processes, agent, receiver, protocol, compression):
    there = receiver()
    olly, want = drive(processes, agent, exporter(
        there, protocol, compression=compression, headers={"x-tenant": "a, b=c"}))
    arrive(there, want)
    request = there.requests[0]
    assert request.headers["x-tenant"] == "a, b=c"
    if protocol == "http" or compression != "zstd":  # grpcio does not know zstd
        assert request.compression in {"none": ("identity",)}.get(compression, (compression, "identity"))
    # The receiver had them before the agent had the answer.
    olly.wait_total(len(want), "olly_exported_spans_total", exporter="otlp")
    # The same spans as in the file.
    harness.wait_until(lambda: len(olly.spans()) == len(want), "the file has them too")
    assert {s.id for s in olly.spans()} == {span.span_id.hex() for _, span in there.spans}
    olly.assert_nothing_lost()


def test_environment(processes, agent, receiver, protocol):
    there = receiver()
    olly, want = drive(processes, agent, {}, env={
        "OTEL_EXPORTER_OTLP_ENDPOINT": there.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": {"grpc": "grpc", "http": "http/protobuf"}[protocol],
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=a%20b"})
    arrive(there, want)
    assert there.requests[0].headers["x-tenant"] == "a b"


@pytest.mark.parametrize("mutual", [False, True])
def test_tls(processes, agent, receiver, protocol, tmp_path, mutual):
    certificates = otlp_receiver.Certificates(tmp_path / "tls", mutual)
    there = receiver(tls=certificates)
    tls = {"ca_file": certificates.path("ca.pem")}
    if mutual:
        tls |= {"cert_file": certificates.path("client.pem"), "key_file": certificates.path("client.key")}
    _, want = drive(processes, agent, exporter(there, protocol, tls=tls))
    arrive(there, want)


def test_certificate_of_a_stranger(processes, agent, receiver, protocol, tmp_path):
    there = receiver(tls=otlp_receiver.Certificates(tmp_path / "tls"))
    other = otlp_receiver.Certificates(tmp_path / "other")
    olly, want = drive(processes, agent, exporter(there, protocol, tls={"ca_file": other.path("ca.pem")}))
    harness.wait_until(lambda: "certificate" in olly.log.read_text(), "the log says why")
    harness.wait_until(lambda: len(olly.spans()) == len(want), "the file has them all the same")
    assert olly.get("/ready")[0] == 200
    assert not there.requests


def test_failures_are_retried(processes, agent, receiver, protocol):
    """Every retryable kind, then success: each span once."""
    there = receiver(("fail", "UNAVAILABLE", 503), ("fail", "DEADLINE_EXCEEDED", 504), "close",
                     ("fail", "ABORTED", 429))
    olly, want = drive(processes, agent, exporter(there, protocol))
    arrive(there, want)
    olly.assert_nothing_lost()


def test_receiver_says_when_to_come_back(processes, agent, receiver, protocol):
    there = receiver(("throttle", 3))
    olly, want = drive(processes, agent, exporter(there, protocol))
    arrive(there, want)
    assert there.attempts[1] - there.attempts[0] >= 2.9
    olly.assert_nothing_lost()


def test_refused_for_good_is_counted_and_not_repeated(processes, agent, receiver, protocol):
    there = receiver(*[("fail", "PERMISSION_DENIED", 403)] * 50)  # spans may leave in several requests
    olly, want = drive(processes, agent, exporter(there, protocol))
    olly.wait_total(len(want), "olly_drops_total", cause="export_refused")
    assert not there.requests
    assert olly.total("olly_export_requests_total", exporter="otlp", result="retry") == 0
    assert olly.get("/ready")[0] == 200


def test_partial_success_is_counted(processes, agent, receiver, protocol):
    there = receiver(("accept", 3))
    olly, want = drive(processes, agent, exporter(there, protocol))
    arrive(there, want)
    olly.wait_total(3, "olly_drops_total", cause="export_rejected")
    harness.wait_until(lambda: "some are too old" in olly.log.read_text(), "the log says why")


def test_too_large_is_split(processes, agent, receiver, protocol):
    there = receiver(("too_large", 4000))
    olly, want = drive(processes, agent, exporter(there, protocol, compression="none"), requests=40)
    arrive(there, want)
    assert all(r.size <= 4000 for r in there.requests)
    olly.assert_nothing_lost()


def test_receiver_that_comes_back(processes, agent, receiver, protocol):
    """Absent at first; its port is the same later."""
    port = harness.free_port()  # below the range that some client's connection may take meanwhile
    olly, want = drive(processes, agent, {"otlp": {
        "endpoint": f"http://127.0.0.1:{port}", "protocol": protocol}})
    harness.wait_until(lambda: olly.total("olly_export_requests_total", exporter="otlp", result="retry") > 0,
                       "it was tried")
    there = receiver(port=port)
    arrive(there, want, 60)
    olly.assert_nothing_lost()


def test_what_is_left_leaves_at_the_end(processes, agent, receiver, protocol):
    """SIGTERM right after the last request: everything arrives within the five seconds."""
    there = receiver(("slow", 1))
    olly, want = drive(processes, agent, exporter(there, protocol), requests=200)
    assert olly.stop() == 0
    assert paths(there) == want


def test_own_metrics(processes, agent, receiver, protocol):
    there = receiver()
    _, want = drive(processes, agent, exporter(there, protocol), config={"metrics": {"interval": "1s"}})
    arrive(there, want)
    named = lambda name: [metric for _, metric in there.metrics if metric.name == name]
    harness.wait_until(lambda: named("olly_spans_total"), "metrics arrive")
    for resource, _ in there.metrics:
        assert {a.key: a.value.string_value for a in resource.attributes}["service.name"] == "olly"
    harness.wait_until(lambda: named("olly_process_cpu_seconds_total"), "the CPU time, too")
    (metric,) = named("olly_process_cpu_seconds_total")[:1]
    assert metric.unit == "s" and 0 < metric.sum.data_points[0].as_double < 60


def test_export_is_not_observed(processes, agent, receiver, protocol):
    """The whole host is observed, the receiver is in this process: no span of the export traffic."""
    there = receiver()
    server, port = processes.python()
    olly = agent(None, {"exporters": exporter(there, protocol), "metrics": {"interval": "1s"}})
    workload.keep_alive(port, workload.plan(10))
    harness.wait_until(lambda: len(there.requests) >= 3, "several requests arrive")
    olly.stop()
    own = [s for s in olly.spans() if there.port in (s["server.port"], s["network.peer.port"])]
    assert not own, own
