"""A client and a server in network namespaces of their own, a router with DNAT and masquerade between
them: addresses and ports differ at the two ends, yet CLIENT and SERVER are one exchange."""
import os
import subprocess
import sys

import harness
import pytest

CLIENT_CODE = """
import http.client, sys
c = http.client.HTTPConnection("10.211.1.1", 80, timeout=10)
for n in range(20):
    c.request("GET", f"/ok/nat-{n}")
    assert c.getresponse().read()
    if n % 5 == 4:
        c.close()
"""


@pytest.fixture
def namespaces():
    ip = harness.need("ip")
    harness.need("iptables")
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    tag = os.getpid()
    client, router, server = (f"olly{x}{tag}" for x in "crs")
    in_router = [ip, "netns", "exec", router]
    steps = [[ip, "netns", "add", n] for n in (client, router, server)] + [
        [ip, "link", "add", f"oc{tag}", "netns", client, "type", "veth", "peer", f"rc{tag}", "netns", router],
        [ip, "link", "add", f"os{tag}", "netns", server, "type", "veth", "peer", f"rs{tag}", "netns", router],
    ]
    for name, device, address in ((client, f"oc{tag}", "10.211.1.2"), (router, f"rc{tag}", "10.211.1.1"),
                                  (server, f"os{tag}", "10.211.2.2"), (router, f"rs{tag}", "10.211.2.1")):
        steps += [[ip, "-n", name, "addr", "add", address + "/24", "dev", device],
                  [ip, "-n", name, "link", "set", device, "up"]]
    # The server's own address is reached through its loopback device, which begins down.
    steps += [[ip, "-n", name, "link", "set", "lo", "up"] for name in (client, router, server)]
    steps += [
        [*in_router, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"],
        [*in_router, "iptables", "-t", "nat", "-A", "PREROUTING", "-d", "10.211.1.1", "-p", "tcp",
         "--dport", "80", "-j", "DNAT", "--to-destination", "10.211.2.2:8080"],
        [*in_router, "iptables", "-t", "nat", "-A", "POSTROUTING", "-o", f"rs{tag}", "-j", "MASQUERADE"],
    ]
    try:
        for step in steps:
            ran = subprocess.run(step, capture_output=True, text=True, check=False)
            if ran.returncode:
                pytest.skip(f"no NAT between namespaces here: {' '.join(step)}: {ran.stderr.strip()}")
        yield client, server
    finally:
        for name in (client, router, server):
            subprocess.run([ip, "netns", "del", name], capture_output=True, check=False)


def test_client_and_server_through_nat(processes, agent, namespaces):
    client, server = namespaces
    ip = harness.need("ip")
    process = processes.start(
        [sys.executable, harness.PROGRAMS / "pyserver.py", 8080, "--bind", "10.211.2.2"],
        prefix=[ip, "netns", "exec", server])
    harness.wait_until(lambda: harness.listens(process.pid, 8080) or process.poll() is not None,
                       "the server listens")
    assert process.poll() is None, open(process.log).read()
    # `ip netns exec` replaces itself by the program: the pid is the program's.
    olly = agent(config={"hook": {"include": [{"pid": process.pid}, {"service": "nat-client"}]}})
    caller = processes.start([sys.executable, "-c", CLIENT_CODE], prefix=[ip, "netns", "exec", client],
                             env={"OTEL_SERVICE_NAME": "nat-client"})
    assert caller.wait(30) == 0, open(caller.log).read()

    spans = olly.wait_spans(40, lambda s: s.path.startswith("/ok/nat-"))
    assert len(spans) == 40
    clients = {s.path: s for s in spans if s.kind == "client"}
    servers = {s.path: s for s in spans if s.kind == "server"}
    assert len(clients) == len(servers) == 20
    for path, span in servers.items():
        assert span.parent == clients[path].id and span.trace == clients[path].trace
        assert span["network.peer.address"] == "10.211.2.1"  # what the masquerade made of it
        assert clients[path]["network.peer.address"] == "10.211.1.1"
    olly.assert_nothing_lost()
