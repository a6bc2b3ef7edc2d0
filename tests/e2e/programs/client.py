"""Does what it is told on stdin, in a process of its own: a line of JSON with the port, the name of a
client of workload.py and the requests; prints what it got, as a line of JSON."""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import workload  # noqa: E402

CLIENTS = {
    "http.client": workload.keep_alive,
    "urllib": workload.urllib_each,
    "requests": workload.requests_session,
    "curl": workload.curl,
    "asyncio": workload.asyncio_streams,
    "curl-gnutls": workload.curl_gnutls,
}
for line in sys.stdin:
    order = json.loads(line)
    requests = [(method, path, body.encode() if body is not None else None)
                for method, path, body in order["requests"]]
    print(json.dumps(CLIENTS[order["client"]](order["port"], requests)), flush=True)
