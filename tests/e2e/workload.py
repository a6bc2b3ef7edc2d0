"""What clients do to a test server, and the truth about it: one Exchange per request, as the client
knows it. The ids in the paths are unique; the agent never reads them."""
import collections
import concurrent.futures
import http.client
import itertools
import subprocess
import urllib.error
import urllib.request

Exchange = collections.namedtuple("Exchange", "method path status sent received")

_ids = itertools.count(1)


def plan(count, chunked=True):
    """(method, path, request body) of `count` requests of every shape."""
    shapes = [
        lambda i: ("GET", f"/ok/{i}", None),
        lambda i: ("GET", f"/size/70000/{i}", None),
        lambda i: ("POST", f"/echo/{i}", b"e" * 1234),
        lambda i: ("GET", f"/status/404/{i}", None),
        lambda i: ("GET", f"/status/500/{i}", None),
        lambda i: ("POST", f"/echo/{i}", b"E" * 40000),
        lambda i: ("GET", f"/size/0/{i}", None),
    ]
    if chunked:
        shapes.append(lambda i: ("GET", f"/chunked/2000/{i}", None))
    return [shapes[n % len(shapes)](f"u{next(_ids)}") for n in range(count)]


def keep_alive(port, requests):
    """http.client, all on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    done = []
    for method, path, body in requests:
        connection.request(method, path, body)
        response = connection.getresponse()
        done.append(Exchange(method, path, response.status, len(body or b""), len(response.read())))
    connection.close()
    return done


def urllib_each(port, requests):
    """urllib: a connection per request."""
    done = []
    for method, path, body in requests:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                status, size = response.status, len(response.read())
        except urllib.error.HTTPError as error:
            status, size = error.code, len(error.read())
        done.append(Exchange(method, path, status, len(body or b""), size))
    return done


def requests_session(port, requests):
    """The requests library with its pool of connections."""
    import requests as library

    session = library.Session()
    session.trust_env = False
    done = []
    for method, path, body in requests:
        response = session.request(method, f"http://127.0.0.1:{port}{path}", data=body, timeout=20)
        done.append(Exchange(method, path, response.status_code, len(body or b""),
                             len(response.content)))
    session.close()
    return done


def curl(port, requests):
    """curl: a process per request."""
    done = []
    for method, path, body in requests:
        command = ["curl", "-s", "-o", "-", "-w", "%{stderr}%{http_code}", "-X", method,
                   f"http://127.0.0.1:{port}{path}"]
        if body is not None:
            command += ["--data-binary", "@-"]
        ran = subprocess.run(command, input=body or b"", capture_output=True, check=True)
        done.append(Exchange(method, path, int(ran.stderr), len(body or b""), len(ran.stdout)))
    return done


def in_flight(port, requests, threads, client=keep_alive):
    """`requests` dealt out to `threads` clients that run at the same time."""
    shares = [requests[n::threads] for n in range(threads)]
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return [e for share in pool.map(lambda s: client(port, s), shares) for e in share]


def exchange_of(span):
    return Exchange(span["http.request.method"], span.path, span["http.response.status_code"],
                    span["http.request.body.size"] or 0, span["http.response.body.size"] or 0)


def assert_same(spans, truth):
    """The spans are the client's exchanges, one for one."""
    got = collections.Counter(map(exchange_of, spans))
    want = collections.Counter(truth)
    missing, extra = want - got, got - want
    assert not missing and not extra, (
        f"missing: {list(missing.elements())[:5]} ({missing.total()}), "
        f"extra: {list(extra.elements())[:5]} ({extra.total()})")
