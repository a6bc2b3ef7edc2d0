"""Real programs under libolly.so."""
import os
import subprocess

import harness
import pytest


@pytest.fixture
def preload(tmp_path, agent):
    path = tmp_path / "hook.sock"
    olly = agent(None, {"hook": {"provider": "socket", "socket_path": str(path)}})
    olly.env = {"LD_PRELOAD": harness.LIBRARY, "OLLY_HOOK_SOCKET_PATH": str(path)}
    return olly


def test_redis(preload, processes):
    server = harness.need("redis-server")
    client = harness.need("redis-benchmark")
    processes.env = preload.env
    port = harness.free_port()
    processes.start([server, "--port", port, "--save", "", "--appendonly", "no"], port)
    for pipeline in ("1", "16"):
        ran = subprocess.run([client, "-p", str(port), "-n", "20000", "-c", "20", "-P", pipeline, "-t",
                              "set,get", "-q", "-e"], capture_output=True, text=True, timeout=60,
                             env={**os.environ, **preload.env}, check=False)
        assert ran.returncode == 0 and "GET:" in ran.stdout and "rror" not in ran.stdout, ran
    answer = subprocess.run(["redis-cli", "-p", str(port), "ping"], capture_output=True, text=True,
                            timeout=20, check=False).stdout
    assert answer.strip() == "PONG"


@pytest.mark.parametrize("size", [0, 1, 70_000, 5_000_000])
def test_nginx_and_curl(preload, processes, size):
    processes.env = preload.env
    master, port, _ = processes.nginx("", workers=2)
    body = os.urandom(size)
    (master.html / "file").write_bytes(body)
    for _ in range(3):
        ran = subprocess.run(["curl", "-sf", f"http://127.0.0.1:{port}/file"], capture_output=True,
                             env={**os.environ, **preload.env}, timeout=30, check=True)
        assert ran.stdout == body
