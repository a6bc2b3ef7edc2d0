"""The test paths of pyserver.py on Flask's own threaded server.

    flask_app.py PORT [URL]     /chain calls URL/leaf/ID/0 and /1
"""
import logging
import sys
import urllib.request

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


@app.get("/chain/<ident>")
def chain(ident):
    for k in range(2):
        urllib.request.urlopen(f"{sys.argv[2]}/leaf/{ident}/{k}", timeout=20).read()
    return f"chain {ident}"


app.run("127.0.0.1", int(sys.argv[1]), threaded=True)
