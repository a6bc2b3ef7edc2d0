"""The strict receiver itself, with the official clients: it takes what is right and nothing else."""
import grpc
import pytest
import requests
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

import otlp_receiver


def good():
    request = trace_service_pb2.ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = group.scope_spans.add()
    scope.scope.name = "olly"
    span = scope.spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, name="GET", kind=2,
                           start_time_unix_nano=1, end_time_unix_nano=2)
    span.attributes.add(key="a").value.int_value = 1
    return request, span


def broken(name):
    request, span = good()
    scope = request.resource_spans[0].scope_spans[0]
    match name:
        case "trace id of 15 bytes": span.trace_id = b"t" * 15
        case "trace id of zeros": span.trace_id = bytes(16)
        case "span id of 9 bytes": span.span_id = b"s" * 9
        case "its own parent": span.parent_span_id = span.span_id
        case "no name": span.name = ""
        case "no kind": span.kind = 0
        case "ends before it starts": span.end_time_unix_nano = 0
        case "attribute twice": span.attributes.add(key="a").value.int_value = 2
        case "attribute without value": span.attributes.add(key="b")
        case "no service.name": del request.resource_spans[0].resource.attributes[:]
        case "no spans": del scope.spans[:]
        case "no scope name": scope.scope.name = ""
        case "message without error": span.status.message = "fine"
        case "empty request": request = trace_service_pb2.ExportTraceServiceRequest()
    data = request.SerializeToString()
    if name == "unknown field":
        data += b"\xa8\x1f\x01"
    if name == "text that is not UTF-8":
        data = data.replace(b"GET", b"G\xffT")
    if name == "cut off":
        data = data[:-1]
    return data


BROKEN = ["trace id of 15 bytes", "trace id of zeros", "span id of 9 bytes", "its own parent", "no name",
          "no kind", "ends before it starts", "attribute twice", "attribute without value",
          "no service.name", "no spans", "no scope name", "message without error", "empty request",
          "unknown field", "text that is not UTF-8", "cut off"]
PLAIN = {"Content-Type": "application/x-protobuf"}


def post(receiver, data):
    return requests.post(receiver.endpoint + "/v1/traces", data=data, headers=PLAIN, timeout=5)


def test_what_is_right_is_taken():
    request, _ = good()
    with otlp_receiver.Receiver("http") as there:
        assert post(there, request.SerializeToString()).status_code == 200
        assert len(there.spans) == 1 and not there.problems
    with otlp_receiver.Receiver("grpc") as there, grpc.insecure_channel(f"127.0.0.1:{there.port}") as channel:
        trace_service_pb2_grpc.TraceServiceStub(channel).Export(request, timeout=5)
        assert len(there.spans) == 1 and not there.problems


def test_what_is_wrong_is_refused():
    with otlp_receiver.Receiver("http") as there:
        for n, name in enumerate(BROKEN):
            assert post(there, broken(name)).status_code == 400, name
            assert len(there.problems) > n and not there.requests, name


def test_script_over_grpc():
    request, _ = good()
    with otlp_receiver.Receiver("grpc", script=[("throttle", 1.5), ("accept", 1)]) as there, \
            grpc.insecure_channel(f"127.0.0.1:{there.port}") as channel:
        export = trace_service_pb2_grpc.TraceServiceStub(channel).Export
        with pytest.raises(grpc.RpcError) as error:
            export(request, timeout=5)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        (details,) = [v for k, v in error.value.trailing_metadata() if k == "grpc-status-details-bin"]
        assert b"google.rpc.RetryInfo" in details
        assert export(request, timeout=5).partial_success.rejected_spans == 1
