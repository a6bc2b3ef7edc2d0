"""Which certificate the demo's services show and trust: CERTIFICATE and KEY name its files; without
them they talk in the clear."""
import os
import ssl

CERTIFICATE = os.environ.get("CERTIFICATE")
SCHEME = "https" if CERTIFICATE else "http"


def for_client():
    return ssl.create_default_context(cafile=CERTIFICATE) if CERTIFICATE else None


def protect(server):
    """A server of http.server; the handshake is the connection's own thread's affair."""
    if CERTIFICATE:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE, os.environ["KEY"])
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server
