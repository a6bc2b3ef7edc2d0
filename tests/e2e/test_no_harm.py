"""Do no harm: what programs send and receive is the same, byte for byte, with and without the agent."""
import hashlib
import os
import re
import socket
import subprocess

import harness
import pytest

REQUESTS = [
    b"GET /ok/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"HEAD /ok/2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /size/500000/3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /chunked/30000/4 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"POST /echo/5 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n" + b"p" * 100000,
    b"GET /status/404/6 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"NONSENSE\r\n\r\n",
    # pipelined
    b"GET /ok/7 HTTP/1.1\r\nHost: x\r\n\r\nGET /ok/8 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
]


def raw_answers(port):
    answers = []
    for request in REQUESTS:
        with socket.create_connection(("127.0.0.1", port), 10) as s:
            s.sendall(request)
            answer = b""
            while True:
                try:
                    chunk = s.recv(65536)
                except ConnectionResetError:
                    answer += b"<reset>"
                    break
                if not chunk:
                    break
                answer += chunk
        answers.append(re.sub(rb"Date: [^\r]*", b"Date: -", answer, flags=re.IGNORECASE))
    return answers


@pytest.mark.parametrize("server", ["python", "go", "node"])
def test_identical_bytes(processes, agent, server):
    process, port = getattr(processes, server)()
    without = raw_answers(port)
    olly = agent([process.pid, os.getpid()])
    with_agent = raw_answers(port)
    olly.wait_spans(7, lambda s: s.kind == "server")
    assert olly.stop() == 0
    after = raw_answers(port)
    assert without == with_agent == after


def test_large_file_through_nginx(processes, agent):
    master, port, pids = processes.nginx("")
    content = os.urandom(64 * 1024 * 1024)
    (master.html / "large").write_bytes(content)
    olly = agent(pids)
    got = subprocess.run([harness.need("curl"), "-s", f"http://127.0.0.1:{port}/large"],
                         capture_output=True, check=True).stdout
    assert hashlib.sha256(got).digest() == hashlib.sha256(content).digest()
    (span,) = olly.wait_spans(1, lambda s: s.path == "/large")
    assert span["http.response.body.size"] == len(content)
    olly.assert_nothing_lost()


def test_errors_stay_what_they_are(processes, agent):
    """errno and results of failing calls on an observed socket."""
    def provoke():
        results = []
        a = socket.socket()
        try:
            a.connect(("127.0.0.1", harness_closed_port))
        except OSError as error:
            results.append(("connect", error.errno))
        a.close()
        left, right = socket.socketpair()
        left.setblocking(False)
        for step in (lambda: left.recv(10), lambda: left.recv(0), lambda: left.send(b"")):
            try:
                results.append(step())
            except OSError as error:
                results.append(error.errno)
        right.close()
        try:
            left.send(b"x")
            left.send(b"x")
        except OSError as error:
            results.append(("send", error.errno))
        left.close()
        return results

    harness_closed_port = harness.free_port()
    without = provoke()
    agent([os.getpid()])
    assert provoke() == without
