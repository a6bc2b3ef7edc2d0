"""Lost events make no wrong links. The agent has the smallest rings and is stopped (SIGSTOP) again and
again under the chain's load, so that the kernel finds no room for records: what is missing may be
anything, and each parent that is still given must be the right one."""
import collections
import itertools
import signal
import threading
import time

import test_chain
import workload

RING = {"hook": {"ebpf": {"ring_size": "64KiB"}}}


def test_no_wrong_parent_when_events_are_lost(processes, agent):
    leaf, leaf_port = processes.python("--delay", "0.003")
    python, python_port = processes.python(
        "--call", f"http://127.0.0.1:{leaf_port}", "--background", f"http://127.0.0.1:{leaf_port}")
    _, port, nginx = processes.nginx(
        'location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }',
        extra=f"upstream up {{ server 127.0.0.1:{python_port}; keepalive 64; }}")
    who = {leaf.pid: "leaf", python.pid: "python", **{p: "nginx" for p in nginx}}
    olly = agent(list(who), RING)
    over = threading.Event()

    def stop_and_go():
        # Three times with a long pause: what is whole again must be linked again.
        for pause in (0.3, 0.3, 0.3, 3.0, 0.1, 0.1):
            olly.process.send_signal(signal.SIGSTOP)
            time.sleep(0.25)
            olly.process.send_signal(signal.SIGCONT)
            if over.wait(pause):
                return

    stopper = threading.Thread(target=stop_and_go)
    stopper.start()
    unique = itertools.count()
    try:
        while stopper.is_alive():
            requests = [("GET", f"/chain/r{next(unique)}", None) for _ in range(160)]
            truth = workload.in_flight(port, requests, 16)
            assert all(e.status == 200 for e in truth)
    finally:
        over.set()
        stopper.join()
    # A window after the last loss, long enough for everything to be sure again.
    time.sleep(2.5)
    workload.in_flight(port, [("GET", f"/chain/late{n}", None) for n in range(50)], 8)
    late = lambda s: (test_chain.ident(s.path) or "").startswith("late")
    olly.wait_spans(50 * 7, late)
    metrics = olly.metrics()
    olly.assert_bytes_conserved()
    assert olly.stop() == 0

    drops = {dict(k)["cause"]: v for k, v in metrics["olly_drops_total"].items()}
    assert drops["ring_full"] > 0, "nothing was lost: this proved nothing"
    everything = olly.spans()
    wrong = test_chain.wrong_parents(everything)
    linked = collections.Counter(f"{who[s.pid]} {s.kind}" for s in everything if s.parent)
    lost = sum(v for k, v in metrics["olly_unlinked_total"].items() if ("cause", "lost_events") in k)
    print(f"\n{drops['ring_full']:.0f} records lost, linked {dict(linked)}, unlinked for it {lost:.0f}")
    assert not wrong, f"{len(wrong)} wrong parents, such as {wrong[:3]}"
    assert lost > 0
    for s in filter(late, everything):
        assert s.parent or (who[s.pid], s.kind) == ("nginx", "server"), f"unlinked: {s}"
