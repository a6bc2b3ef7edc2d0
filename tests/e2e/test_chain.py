"""nginx -> Go -> Python -> a leaf, many in flight, with background calls in each process that makes
calls. Every request has an id of its own in its path, which the agent does not read: it is the truth
about who called whom. A wrong parent is a failure; an unlinked call is a figure that is printed."""
import collections

import pytest
import workload

REQUESTS = 400


def ident(path):
    """The id of the request a span belongs to; None for a background call."""
    parts = path.split("/")
    return parts[2] if parts[1] in ("chain", "leaf") else None


def wrong_parents(spans):
    """(span, parent) of every span whose parent is not the one who made it: another request's, of the
    same kind, in another trace or process, of a background call, or nowhere."""
    by_id = {s.id: s for s in spans}
    wrong = []
    for span in spans:
        if not span.parent:
            continue
        parent = by_id.get(span.parent)
        if (parent is None or ident(span.path) is None and span.kind == "client"
                or ident(parent.path) != ident(span.path) or parent.trace != span.trace
                or parent.kind == span.kind
                or (span.kind == "client") != (parent.pid == span.pid)):
            wrong.append((span, parent))
    return wrong


@pytest.mark.parametrize("in_flight", [8, 64])
def test_every_link_is_right(processes, agent, in_flight):
    leaf, leaf_port = processes.python("--delay", "0.003")
    python, python_port = processes.python(
        "--call", f"http://127.0.0.1:{leaf_port}", "--background", f"http://127.0.0.1:{leaf_port}")
    go, go_port = processes.go(
        f"http://127.0.0.1:{python_port}", f"http://127.0.0.1:{leaf_port}")
    _, port, nginx = processes.nginx(
        'location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }',
        extra=f"upstream up {{ server 127.0.0.1:{go_port}; keepalive 64; }}")
    who = {leaf.pid: "leaf", python.pid: "python", go.pid: "go", **{p: "nginx" for p in nginx}}
    olly = agent(list(who))

    requests = [("GET", f"/chain/r{in_flight}x{n}", None) for n in range(REQUESTS)]
    truth = workload.in_flight(port, requests, in_flight)
    assert all(e.status == 200 for e in truth)

    # A request makes: nginx S and C, go S and C, python S and two C, leaf two S.
    mine = lambda s: ident(s.path) is not None
    spans = olly.wait_spans(9 * REQUESTS, mine, seconds=60)
    olly.assert_nothing_lost()  # before any accuracy is believed
    assert len(spans) == 9 * REQUESTS

    # Background calls never pause: only at the agent's end has every span that names a parent its
    # parent in the file (a SERVER may leave while the CLIENT still reads the answer).
    metrics = olly.metrics()
    assert olly.stop() == 0
    everything = olly.spans()
    by_id = {s.id: s for s in everything}
    assert len(by_id) == len(everything), "span ids must be unique"
    linked, unlinked = collections.Counter(), collections.Counter()
    for span in everything:
        edge = f"{who[span.pid]} {span.kind}"
        if not span.parent:
            if mine(span) and edge != "nginx server":
                unlinked[edge] += 1
            continue
        linked[edge] += 1
    wrong = wrong_parents(everything)
    print(f"\n{in_flight} in flight: linked {dict(linked)}, unlinked {dict(unlinked)}")
    assert not wrong, f"{len(wrong)} wrong parents, such as {wrong[:3]}"

    # What the evidence of this version decides, it must decide: the two ends of a connection, threads
    # of a blocking server (A), nginx (C). Go's http.Client stays unlinked.
    for edge, count in {"go server": REQUESTS, "python server": REQUESTS, "leaf server": 2 * REQUESTS,
                        "python client": 2 * REQUESTS, "nginx client": REQUESTS}.items():
        assert unlinked[edge] == 0, f"{edge}: {unlinked[edge]} of {count} unlinked"
    figure = sum(v for k, v in metrics["olly_unlinked_total"].items())
    assert figure >= unlinked["go client"], "unlinked calls are counted by service and cause"
