"""An OTLP receiver on the official protobuf definitions that rejects what a strict parser rejects.

Receiver(protocol) serves TraceService and MetricsService over gRPC, or /v1/traces and /v1/metrics
over HTTP/1.1, plain or with TLS, on a port of 127.0.0.1. What it accepted is in `spans` and
`metrics`, what was wrong with it in `problems`. `script` holds what it does with the requests to
come, one entry each; then it accepts. An entry is the name of a method below ("accept", ...) or a
tuple of that and its arguments.

Sources: opentelemetry-proto (trace.proto, metrics.proto, common.proto, resource.proto), the OTLP
specification (failures, throttling, partial success), google.rpc.Status and RetryInfo.
"""
import collections
import concurrent.futures
import gzip
import http.server
import re
import ssl
import subprocess
import threading
import time

import grpc
import zstandard
from google.protobuf import unknown_fields
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2

LIMIT = 4 * 1024 * 1024  # what receivers accept by default
SIGNALS = {
    "traces": (trace_service_pb2.ExportTraceServiceRequest,
               trace_service_pb2.ExportTraceServiceResponse,
               "/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
    "metrics": (metrics_service_pb2.ExportMetricsServiceRequest,
                metrics_service_pb2.ExportMetricsServiceResponse,
                "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"),
}
# The names of metrics: the instrument name syntax of the OpenTelemetry metrics API.
METRIC_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,254}$")

Request = collections.namedtuple("Request", "signal headers compression message size")


# --- what a strict parser rejects ----------------------------------------------------------------

class Checker:
    def __init__(self):
        self.problems = []

    def expect(self, condition, what):
        if not condition:
            self.problems.append(what)

    def known_fields(self, message, where):
        found = [f.field_number for f in unknown_fields.UnknownFieldSet(message)]
        self.expect(not found, f"{where}: unknown fields {found}")
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                for one in (value if field.is_repeated else [value]):
                    self.known_fields(one, f"{where}.{field.name}")

    def attributes(self, attributes, where):
        keys = [a.key for a in attributes]
        self.expect(all(keys), f"{where}: an attribute without a key")
        self.expect(len(set(keys)) == len(keys), f"{where}: an attribute twice: {sorted(keys)}")
        for a in attributes:
            self.expect(a.value.WhichOneof("value") is not None, f"{where}: {a.key} has no value")

    def resource(self, group, where):
        self.expect(group.HasField("resource"), f"{where}: no resource")
        names = [a.key for a in group.resource.attributes]
        self.expect("service.name" in names, f"{where}: resource without service.name: {names}")
        self.attributes(group.resource.attributes, where + ".resource")

    def scope(self, group, where):
        self.expect(group.scope.name, f"{where}: a scope without a name")
        self.attributes(group.scope.attributes, where + ".scope")

    def span(self, span, where):
        self.expect(len(span.trace_id) == 16 and any(span.trace_id), f"{where}: trace_id {span.trace_id!r}")
        self.expect(len(span.span_id) == 8 and any(span.span_id), f"{where}: span_id {span.span_id!r}")
        self.expect(len(span.parent_span_id) in (0, 8), f"{where}: parent_span_id {span.parent_span_id!r}")
        self.expect(not span.parent_span_id or any(span.parent_span_id), f"{where}: parent_span_id of zeros")
        self.expect(span.parent_span_id != span.span_id, f"{where}: is its own parent")
        self.expect(span.name, f"{where}: no name")
        self.expect(span.kind in (1, 2, 3, 4, 5), f"{where}: kind {span.kind}")
        self.expect(0 < span.start_time_unix_nano <= span.end_time_unix_nano,
                    f"{where}: from {span.start_time_unix_nano} to {span.end_time_unix_nano}")
        self.expect(span.end_time_unix_nano < (time.time() + 86400) * 1e9, f"{where}: ends in the future")
        self.expect(span.status.code in (0, 1, 2), f"{where}: status {span.status.code}")
        self.expect(span.status.code == 2 or not span.status.message, f"{where}: a message, but no error")
        self.expect(span.flags & ~0x3FF == 0, f"{where}: flags {span.flags:#x}")
        self.attributes(span.attributes, where)
        for event in span.events:
            self.expect(event.time_unix_nano, f"{where}: an event without time")
            self.attributes(event.attributes, where + ".event")
        for link in span.links:
            self.expect(len(link.trace_id) == 16 and len(link.span_id) == 8, f"{where}: link")

    def metric(self, metric, where):
        self.expect(METRIC_NAME.match(metric.name), f"{where}: name {metric.name!r}")
        kind = metric.WhichOneof("data")
        self.expect(kind is not None, f"{where}: no data")
        if kind is None:
            return
        data = getattr(metric, kind)
        self.expect(len(data.data_points) > 0, f"{where}: no data points")
        if kind in ("sum", "histogram", "exponential_histogram"):
            self.expect(data.aggregation_temporality in (
                metrics_pb2.AGGREGATION_TEMPORALITY_DELTA,
                metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE), f"{where}: no temporality")
        series = set()
        for point in data.data_points:
            self.attributes(point.attributes, where)
            key = tuple(sorted((a.key, a.value.SerializeToString()) for a in point.attributes))
            self.expect(key not in series, f"{where}: a series twice")
            series.add(key)
            self.expect(point.time_unix_nano > 0, f"{where}: a point without time")
            if kind != "gauge":
                self.expect(0 < point.start_time_unix_nano <= point.time_unix_nano,
                            f"{where}: from {point.start_time_unix_nano} to {point.time_unix_nano}")
            if kind in ("gauge", "sum"):
                self.expect(point.WhichOneof("value") is not None, f"{where}: a point without value")
            if kind == "sum" and data.is_monotonic:
                self.expect(max(point.as_int, point.as_double) >= 0, f"{where}: monotonic and negative")

    def request(self, signal, message):
        self.known_fields(message, signal)
        groups = message.resource_spans if signal == "traces" else message.resource_metrics
        self.expect(len(groups) > 0, "an empty request")
        for i, group in enumerate(groups):
            where = f"{signal}[{i}]"
            self.resource(group, where)
            scopes = group.scope_spans if signal == "traces" else group.scope_metrics
            self.expect(len(scopes) > 0, f"{where}: a resource with nothing in it")
            for scope in scopes:
                self.scope(scope, where)
                items = scope.spans if signal == "traces" else scope.metrics
                self.expect(len(items) > 0, f"{where}: a scope with nothing in it")
                for item in items:
                    if signal == "traces":
                        self.span(item, f"{where} span {item.name!r}")
                    else:
                        self.metric(item, f"{where} metric {item.name!r}")


# --- the receiver --------------------------------------------------------------------------------

class Answer:
    """What is said to one request, for either protocol."""

    def __init__(self, grpc_code=grpc.StatusCode.OK, http_code=200, body=b"", retry_after=None,
                 details=b"", close=False, message="scripted: 100 % \u00fcber"):
        self.grpc_code = grpc_code
        self.http_code = http_code
        self.body = body
        self.retry_after = retry_after
        self.details = details  # of grpc-status-details-bin
        self.close = close
        self.message = message  # grpc-message


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def delimited(field, data):
    return varint(field << 3 | 2) + varint(len(data)) + data


def retry_info(code, seconds):
    """google.rpc.Status{code, details: [Any{RetryInfo{retry_delay}}]}."""
    whole = int(seconds)
    duration = b"\x08" + varint(whole) + b"\x10" + varint(int((seconds - whole) * 1e9))
    any_ = (delimited(1, b"type.googleapis.com/google.rpc.RetryInfo")
            + delimited(2, delimited(1, duration)))
    return b"\x08" + varint(code) + delimited(3, any_)


def span_count(message):
    return sum(len(scope.spans) for group in message.resource_spans for scope in group.scope_spans)


class Receiver:
    def __init__(self, protocol, tls=None, port=0, script=()):
        self.protocol = protocol
        self.tls = tls  # Certificates, or None
        self.script = collections.deque(script)
        self.lock = threading.Lock()
        self.requests = []  # that were accepted
        self.attempts = []  # times of every request
        self.problems = []
        self.connections = 0
        self._serve = self._serve_grpc if protocol == "grpc" else self._serve_http
        self._serve(port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def endpoint(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def messages(self, signal):
        with self.lock:
            return [r.message for r in self.requests if r.signal == signal]

    @property
    def spans(self):
        return [(group.resource, span) for m in self.messages("traces")
                for group in m.resource_spans for scope in group.scope_spans for span in scope.spans]

    @property
    def metrics(self):
        return [(group.resource, metric) for m in self.messages("metrics")
                for group in m.resource_metrics for scope in group.scope_metrics
                for metric in scope.metrics]

    def take(self, signal, headers, compression, data):
        """One request: what the script says, else checked and accepted."""
        with self.lock:
            self.attempts.append(time.monotonic())
            step = self.script.popleft() if self.script else "accept"
        name, *arguments = (step,) if isinstance(step, str) else step
        return getattr(self, "step_" + name)(Request(signal, headers, compression, data, len(data)),
                                             *arguments)

    def step_accept(self, request, partial=None):
        """`partial`: so many of a request with at least as many spans are refused."""
        request_type, response_type, _ = SIGNALS[request.signal]
        checker = Checker()
        checker.expect(request.size < LIMIT, f"a request of {request.size} bytes")
        message = None
        try:
            message = request_type.FromString(request.message)
            checker.request(request.signal, message)
        except Exception as error:  # DecodeError, also for text that is not UTF-8
            checker.expect(False, f"not a {request_type.__name__}: {error}")
        with self.lock:
            self.problems += checker.problems
            if not checker.problems:
                self.requests.append(request._replace(message=message))
        if checker.problems:
            return Answer(grpc.StatusCode.INVALID_ARGUMENT, 400)
        response = response_type()
        if partial and (request.signal != "traces" or span_count(message) < partial):
            with self.lock:
                self.script.appendleft(("accept", partial))  # for the next one
        elif partial:
            response.partial_success.rejected_spans = partial
            response.partial_success.error_message = "some are too old"
        return Answer(body=response.SerializeToString())

    def step_fail(self, request, grpc_code, http_code):
        return Answer(getattr(grpc.StatusCode, grpc_code), http_code)

    def step_throttle(self, request, seconds, retry_after=None):
        """Come back in so many seconds."""
        return Answer(grpc.StatusCode.UNAVAILABLE, 503, retry_after=retry_after or str(int(seconds)),
                      details=retry_info(14, seconds))

    def step_too_large(self, request, limit):
        """Refuses what is larger than `limit` bytes, and goes on doing so."""
        with self.lock:
            self.script.appendleft(("too_large", limit))
        if request.size <= limit:
            return self.step_accept(request)
        # The words of Go's gRPC, which the Collector is built on.
        return Answer(grpc.StatusCode.RESOURCE_EXHAUSTED, 413, message="grpc: received message larger "
                      f"than max ({request.size} vs. {limit})")

    def step_slow(self, request, seconds):
        time.sleep(seconds)
        return self.step_accept(request)

    def step_close(self, request):
        """The connection ends without an answer (over gRPC: the call does)."""
        return Answer(grpc.StatusCode.UNAVAILABLE, close=True)

    # --- gRPC ------------------------------------------------------------------------------------
    def _serve_grpc(self, port):
        def handler(signal):
            def export(data, context):
                metadata = {k: v for k, v in context.invocation_metadata()}
                encoding = metadata.get("grpc-encoding", "identity")
                answer = self.take(signal, metadata, encoding, data)
                if answer.details:
                    context.set_trailing_metadata((("grpc-status-details-bin", answer.details),))
                if answer.grpc_code is not grpc.StatusCode.OK:
                    context.abort(answer.grpc_code, answer.message)
                return answer.body
            return grpc.unary_unary_rpc_method_handler(export)

        class Methods(grpc.GenericRpcHandler):
            def service(self, details):
                for signal, (_, _, method) in SIGNALS.items():
                    if details.method == method:
                        return handler(signal)
                return None

        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4),
                                  options=[("grpc.max_receive_message_length", 2 * LIMIT),
                                           ("grpc.so_reuseport", 0)])
        self.server.add_generic_rpc_handlers((Methods(),))
        address = f"127.0.0.1:{port}"
        if self.tls:
            credentials = grpc.ssl_server_credentials(
                [(self.tls.read("server.key"), self.tls.read("server.pem"))],
                self.tls.read("ca.pem") if self.tls.mutual else None, self.tls.mutual)
            self.port = self.server.add_secure_port(address, credentials)
        else:
            self.port = self.server.add_insecure_port(address)
        self.server.start()

    # --- HTTP ------------------------------------------------------------------------------------
    def _serve_http(self, port):
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                with receiver.lock:
                    receiver.connections += 1
                super().setup()

            def do_POST(self):
                data = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {k.lower(): v for k, v in self.headers.items()}
                encoding = headers.get("content-encoding", "identity")
                signal = self.path.removeprefix("/v1/")
                if signal not in SIGNALS or headers.get("content-type") != "application/x-protobuf":
                    with receiver.lock:
                        receiver.problems.append(f"{self.path} {headers}")
                    return self.answer(Answer(http_code=404))
                if encoding == "gzip":
                    data = gzip.decompress(data)
                elif encoding == "zstd":
                    data = zstandard.ZstdDecompressor().decompress(data, max_output_size=8 * LIMIT)
                answer = receiver.take(signal, headers, encoding, data)
                if answer.close:
                    self.close_connection = True
                    return None
                return self.answer(answer)

            def answer(self, answer):
                self.send_response(answer.http_code)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer.body)))
                if answer.retry_after:
                    self.send_header("Retry-After", answer.retry_after)
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # a client that goes away is no news

        self.server = Server(("127.0.0.1", port), Handler)
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.tls.path("server.pem"), self.tls.path("server.key"))
            if self.tls.mutual:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(self.tls.path("ca.pem"))
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                     do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        if self.protocol == "grpc":
            self.server.stop(0).wait()
        else:
            self.server.shutdown()
            self.server.server_close()


class Certificates:
    """A CA, a server's and a client's certificate, made with openssl."""

    def __init__(self, folder, mutual=False):
        self.folder = folder
        self.mutual = mutual
        folder.mkdir(exist_ok=True)
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test CA",
                      "-keyout", "ca.key", "-out", "ca.pem")
        (folder / "server.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        (folder / "client.ext").write_text("extendedKeyUsage=clientAuth\n")
        for name in ("server", "client"):
            self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
                          "-keyout", f"{name}.key", "-out", f"{name}.csr")
            self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                          "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def path(self, name):
        return str(self.folder / name)

    def read(self, name):
        return (self.folder / name).read_bytes()
