"""What clients do to a test server, and the truth about it: one Exchange per request, as the client
knows it. The ids in the paths are unique; the agent never reads them.

With a certificate in TEST_TLS_CA the clients speak TLS and trust it."""
import asyncio
import collections
import concurrent.futures
import ctypes
import http.client
import io
import itertools
import os
import ssl
import subprocess
import urllib.error
import urllib.request

Exchange = collections.namedtuple("Exchange", "method path status sent received")

_ids = itertools.count(1)
CA = os.environ.get("TEST_TLS_CA")
SCHEME = "https" if CA else "http"
TLS = ssl.create_default_context(cafile=CA) if CA else None


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
    connection = (http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=TLS) if CA else
                  http.client.HTTPConnection("127.0.0.1", port, timeout=20))
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
        request = urllib.request.Request(f"{SCHEME}://127.0.0.1:{port}{path}", data=body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20, context=TLS) as response:
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
    session.verify = CA or True
    done = []
    for method, path, body in requests:
        response = session.request(method, f"{SCHEME}://127.0.0.1:{port}{path}", data=body, timeout=20)
        done.append(Exchange(method, path, response.status_code, len(body or b""),
                             len(response.content)))
    session.close()
    return done


def curl(port, requests):
    """curl: a process per request."""
    done = []
    for method, path, body in requests:
        command = ["curl", "-s", "-o", "-", "-w", "%{stderr}%{http_code}", "-X", method,
                   f"{SCHEME}://127.0.0.1:{port}{path}", *(["--cacert", CA] if CA else [])]
        if body is not None:
            command += ["--data-binary", "@-"]
        ran = subprocess.run(command, input=body or b"", capture_output=True, check=True)
        done.append(Exchange(method, path, int(ran.stderr), len(body or b""), len(ran.stdout)))
    return done


def asyncio_streams(port, requests):
    """asyncio: on one connection; over TLS the library never sees the socket (memory BIOs)."""
    async def run():
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=TLS)
        done = []
        for method, path, body in requests:
            head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            if body is not None:
                head += f"Content-Length: {len(body)}\r\n"
            writer.write(head.encode() + b"\r\n" + (body or b""))
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            headers = http.client.parse_headers(io.BytesIO(head.split(b"\r\n", 1)[1]))
            size = int(headers.get("Content-Length", 0))
            await reader.readexactly(size)
            while headers.get("Transfer-Encoding") == "chunked":
                chunk = int(await reader.readuntil(b"\r\n"), 16)
                await reader.readexactly(chunk + 2)
                size += chunk
                if chunk == 0:
                    break
            done.append(Exchange(method, path, int(head.split()[1]), len(body or b""), size))
        writer.close()
        return done
    return asyncio.run(run())


def curl_gnutls(port, requests):
    """libcurl built with GnuTLS, as git uses it: all on one connection."""
    curl = ctypes.CDLL("libcurl-gnutls.so.4")
    curl.curl_easy_init.restype = ctypes.c_void_p
    curl.curl_easy_reset.argtypes = curl.curl_easy_cleanup.argtypes = [ctypes.c_void_p]
    easy = ctypes.c_void_p(curl.curl_easy_init())
    done = []
    for method, path, body in requests:
        size = [0]
        on_data = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t,
                                   ctypes.c_void_p)(lambda _, a, b, __: size.append(a * b) or a * b)
        options = [(10002, f"{SCHEME}://127.0.0.1:{port}{path}".encode()), (10036, method.encode()),
                   (20011, on_data)]  # URL, CUSTOMREQUEST, WRITEFUNCTION
        if CA:
            options.append((10065, CA.encode()))  # CAINFO
        if body is not None:
            options += [(60, ctypes.c_long(len(body))), (10015, body)]  # POSTFIELDSIZE, POSTFIELDS
        for option, value in options:
            curl.curl_easy_setopt(easy, option, value)
        assert (failed := curl.curl_easy_perform(easy)) == 0, failed
        status = ctypes.c_long()
        curl.curl_easy_getinfo(easy, 0x200002, ctypes.byref(status))  # RESPONSE_CODE
        done.append(Exchange(method, path, status.value, len(body or b""), sum(size)))
        curl.curl_easy_reset(easy)
    curl.curl_easy_cleanup(easy)
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


def assert_sizes(spans, asked):
    """Of each path that was asked for, which ends in how many bytes went each way, one span at each end."""
    for kind in ("client", "server"):
        mine = [s for s in spans if s.kind == kind]
        assert sorted(s.path for s in mine) == sorted(asked)
        for s in mine:
            size = int(s.path.rpartition("-")[2])
            assert (s["http.request.body.size"] or 0, s["http.response.body.size"] or 0) == (size, size), s
            assert s["olly.incomplete"] is None, s
