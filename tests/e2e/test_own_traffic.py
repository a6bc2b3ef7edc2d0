"""The agent's own traffic is left out at both ends."""
import subprocess

import harness


def test_requests_to_the_health_server_are_no_spans(processes, agent):
    olly = agent()  # the whole host
    curl = harness.need("curl")
    server, port = processes.python()
    for n in range(3):
        for path in ("/metrics", "/health", "/ready"):
            subprocess.run([curl, "-sf", "-o", "/dev/null", f"http://127.0.0.1:{olly.port}{path}"], check=True)
        subprocess.run([curl, "-sf", "-o", "/dev/null", f"http://127.0.0.1:{port}/seen/{n}"], check=True)
    mine = lambda span: span.path.startswith("/seen/")
    assert len(olly.wait_spans(6, mine)) == 6
    olly.stop()
    own = [s for s in olly.spans() if s["server.port"] == olly.port]
    assert not own, own
