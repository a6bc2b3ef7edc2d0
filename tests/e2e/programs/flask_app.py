"""The test paths of pyserver.py on Flask's own threaded server."""
import logging
import sys

from flask import Flask, Response, request

logging.getLogger("werkzeug").disabled = True
app = Flask(__name__)


@app.get("/ok/<ident>")
def ok(ident):
    return f"ok {ident}"


@app.get("/size/<int:n>/<ident>")
def size(n, ident):
    return Response(b"x" * n)


@app.get("/chunked/<int:n>/<ident>")
def chunked(n, ident):
    return Response(b"c" * min(700, n - at) for at in range(0, n, 700))


@app.get("/status/<int:code>/<ident>")
def status(code, ident):
    return Response(b"", status=code)


@app.post("/echo/<ident>")
def echo(ident):
    return Response(request.get_data())


app.run("127.0.0.1", int(sys.argv[1]), threaded=True)
