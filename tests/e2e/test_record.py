"""`olly record`, then `olly replay`: the spans that a live agent made of the same traffic."""
import json
import os
import signal
import socket
import subprocess

import harness
import pytest
import workload
from test_preload import Client
from test_preload_tls import certificate, start_server  # noqa: F401

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: eBPF")


def replayed(file, **env):
    done = subprocess.run([harness.OLLY, "replay", str(file), "--format", "otlp-json"],
                          capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, **env})
    assert done.returncode == 0, done.stderr
    return [span for line in done.stdout.splitlines() for span in harness.spans_of(json.loads(line))]


@pytest.fixture
def recording(tmp_path):
    """recording(pid): starts `olly record` of a process; its stop() gives the file."""
    started = []

    class Recording:
        def __init__(self, pid):
            self.file = tmp_path / f"{pid}.olly"
            capture = os.environ.get("E2E_CAPTURE")
            more = {"OLLY_HOOK_EBPF_CAPTURE": capture} if capture else {}
            self.process = subprocess.Popen(
                [harness.OLLY, "record", "--output", str(self.file), "--pid", str(pid)],
                stderr=subprocess.PIPE, text=True, env={**os.environ, **more})
            started.append(self.process)
            # Written once capture runs.
            harness.wait_until(lambda: self.file.exists() or self.process.poll() is not None,
                               "the recording begins")

        def stop(self):
            self.process.send_signal(signal.SIGINT)
            said = self.process.communicate(timeout=20)[1]
            assert self.process.returncode == 0, said
            assert ", 0 lost" in said, said
            return self.file

    yield Recording
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def known(span):
    """What must be the same: all but the time of day and what the threads were said to have used, which
    each of the two read at its own moment."""
    return (span.service, span.pid, span.kind, span.name, span.trace, span.id, span.parent, span.status,
            tuple(sorted((k, v) for k, v in span.attributes.items() if not k.startswith("olly.time."))))


@pytest.mark.parametrize("server", ["python", "go", "node"])
def test_replay_makes_the_spans_of_the_live_agent(processes, agent, recording, server):
    process, port = getattr(processes, server)()
    olly = agent([process.pid])
    tape = recording(process.pid)
    truth = workload.keep_alive(port, workload.plan(24)) + workload.urllib_each(port, workload.plan(8))
    live = olly.wait_spans(len(truth))
    workload.assert_same(live, truth)
    spans = replayed(tape.stop())
    assert sorted(map(known, spans)) == sorted(map(known, live))
    # Stamped by the one kernel, for each of them: durations are alike, if not the same.
    length = {s.id: s.end - s.start for s in live}
    for span in spans:
        assert abs(span.end - span.start - length[span.id]) < 1e9


def test_both_layers_of_tls(processes, agent, recording, certificate):  # noqa: F811
    pids, ports = start_server(processes, "python", certificate)
    olly = agent(pids)
    tape = recording(pids[0])
    driver = Client({"TEST_TLS_CA": certificate[0]})
    truth = driver.do("http.client", ports[0], workload.plan(24))
    driver.end()
    live = olly.wait_spans(len(truth))
    workload.assert_same(live, truth)
    spans = replayed(tape.stop())
    assert all(s["url.scheme"] == "https" and s["tls.protocol.version"] for s in live)
    assert sorted(map(known, spans)) == sorted(map(known, live))


def test_replay_leaves_configured_exporters_alone(processes, agent, recording, tmp_path):
    """It is for looking at a recording: prints, and sends it to nobody."""
    process, port = processes.python()
    tape = recording(process.pid)
    workload.keep_alive(port, workload.plan(2))
    file = tape.stop()
    with socket.create_server(("127.0.0.1", 0)) as collector:
        endpoint = f"http://127.0.0.1:{collector.getsockname()[1]}"
        spans = replayed(file, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OLLY_EXPORTERS_OTLP_ENDPOINT=endpoint,
                         OLLY_EXPORTERS_FILE_PATH=str(tmp_path / "spans.jsonl"),
                         OLLY_HEALTH_ADDRESS=endpoint[len("http://"):])
        collector.setblocking(False)
        with pytest.raises(BlockingIOError):
            collector.accept()
    assert len(spans) == 2
    assert not (tmp_path / "spans.jsonl").exists()
