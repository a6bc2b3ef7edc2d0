"""TLS of other protocols than HTTP, of libraries that programs bring along, and of those that cannot be
seen, which is said."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading

import harness
import postgresql_log
import pytest
import redis
import test_mongodb as mongodb
import test_mysql as mysql
from redis_log import text_of
from test_preload_tls import certificate  # noqa: F401
from test_tls_ebpf import tls_agent  # noqa: F401

POSTGRES = """
import importlib, sys, time
library = importlib.import_module(sys.argv[2])

def connect():
    c = library.connect(host='127.0.0.1', dbname='shop', user='olly', port=int(sys.argv[1]), sslmode='require')
    c.autocommit = True
    return c

for n in range(100):  # until the server has read its configuration again
    try:
        connect()
        break
    except library.OperationalError:
        time.sleep(0.1)
print('ready', flush=True)
sys.stdin.readline()
for again in range(4):
    c = connect()
    cursor = c.cursor()
    for n in range(25):
        cursor.execute(f'SELECT n AS wheel_{again}_{n} FROM items WHERE id <= 7')
        assert len(cursor.fetchall()) == 7
    cursor.execute('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()')
    assert cursor.fetchone()[0]
    print([l.split()[-1] for l in open('/proc/self/maps') if 'libssl-' in l][0], flush=True)
    c.close()
"""


def assert_both_ends(spans, asked, what=lambda span: span["db.query.text"]):
    """Each that was asked once at either end, and the SERVER is the child of its CLIENT."""
    for kind in ("client", "server"):
        assert sorted(what(s) for s in spans if s.kind == kind) == sorted(asked)
    clients = {s.id: what(s) for s in spans if s.kind == "client"}
    for s in spans:
        assert s.kind == "client" or clients[s.parent] == what(s), s


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_wheels_own_library(processes, tls_agent, certificate, driver):  # noqa: F811
    """These wheels have a libssl-HASH.so of their own: OpenSSL 3.5 without a stack protector, and 1.1.
    PostgreSQL turns to TLS in the middle of a connection."""
    pytest.importorskip(driver)
    with postgresql_log.running() as server:
        for source, name in zip(certificate, ("server.crt", "server.key")):
            shutil.copy(source, server.home / "data" / name)
            shutil.chown(server.home / "data" / name, "nobody")
        (server.home / "data" / "server.key").chmod(0o600)
        server.sql("ALTER SYSTEM SET ssl = on")
        server.sql("SELECT pg_reload_conf()")
        client = subprocess.Popen([sys.executable, "-c", POSTGRES, str(server.port), driver],
                                  text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        processes.running.append(client)
        assert client.stdout.readline() == "ready\n"
        olly = tls_agent([server.pid, client.pid])
        out, _ = client.communicate("go\n", timeout=60)
        assert client.returncode == 0
        library = pathlib.Path(out.split()[0]).name
        assert library.endswith(".so.1.1" if driver == "psycopg2" else ".so.3"), library
        calls = olly.wait_spans(200, lambda s: "wheel_" in (s["db.query.text"] or ""))
        want = {f"SELECT n AS wheel_{a}_{n} FROM items WHERE id <= ?" for a in range(4) for n in range(25)}
        assert_both_ends(calls, want)
        for s in calls:
            assert s["db.response.returned_rows"] == 7 and s["tls.protocol.version"] == "1.3", s
        olly.assert_nothing_lost()
        olly.assert_bytes_conserved()


MYSQL = """
import pymysql, ssl, sys, threading
context = ssl.create_default_context(cafile=sys.argv[2])
print('ready', flush=True)
sys.stdin.readline()

def work(n):
    c = pymysql.connect(host='127.0.0.1', port=int(sys.argv[1]), user='joe', password='hunter2',
                        database=f'd{n}', ssl=context, autocommit=True)
    with c.cursor() as cursor:
        for k in range(25):
            cursor.execute(f'SELECT id AS a_{n}_{k}, name FROM songs WHERE id < 7')
            assert len(cursor.fetchall()) == 7
        cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        assert cursor.fetchone()[1]
    c.close()

threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
for t in threads:
    t.start()
for t in threads:
    t.join(60)
"""


def test_mysql(processes, tls_agent, certificate):  # noqa: F811
    """PyMySQL to mariadbd: greeting and SSLRequest in the clear, the login and all else in TLS."""
    with tempfile.TemporaryDirectory(prefix="olly-mariadb-") as tmp:  # as in test_mysql.py
        cert, key = (shutil.copy(path, tmp) for path in certificate)  # where another user can read them
        server = mysql.Server(pathlib.Path(tmp), f"--ssl-cert={cert}", f"--ssl-key={key}")
        try:
            server.databases([f"d{n}" for n in range(20)])
            client = subprocess.Popen([sys.executable, "-c", MYSQL, str(server.port), certificate[0]],
                                      text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            processes.running.append(client)
            assert client.stdout.readline() == "ready\n"
            olly = tls_agent([server.pid, client.pid])
            client.communicate("go\n", timeout=90)
            assert client.returncode == 0
            spans = olly.wait_spans(1000, lambda s: "AS a_" in (s["db.query.text"] or ""))
        finally:
            server.processes.stop_all()
    want = [(f"d{n}", f"SELECT id AS a_{n}_{k}, name FROM songs WHERE id < ?")
            for n in range(20) for k in range(25)]
    assert_both_ends(spans, want, lambda s: (s["db.namespace"], s["db.query.text"]))
    for s in spans:
        assert (s["db.system.name"], s["db.response.returned_rows"]) == ("mariadb", 7), s
        assert s["olly.incomplete"] is None and s["tls.protocol.version"] == "1.3", s
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()


def test_mongodb(processes, tls_agent, certificate):  # noqa: F811
    """pymongo; the server is a Java program, whose TLS nobody sees."""
    server, client, go = mongodb.start(processes, 20, 50, certificate)
    olly = tls_agent([client.pid])
    truth = mongodb.asked(client, go)
    assert len(truth) >= 1000
    spans = olly.wait_spans(len(truth), seconds=30)
    mongodb.assert_same(spans, truth)
    for span in spans:
        mongodb.check_common(span, server)
        assert span.kind == "client" and span["tls.protocol.version"] in ("1.2", "1.3")
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()


def test_redis(processes, tls_agent, certificate, tmp_path):  # noqa: F811
    """redis-py to redis-server's TLS port, 20 connections at once."""
    server, port = harness.need("redis-server"), harness.free_port()
    try:
        process = processes.start(
            [server, "--port", "0", "--tls-port", port, "--tls-cert-file", certificate[0], "--tls-key-file",
             certificate[1], "--tls-ca-cert-file", certificate[0], "--tls-auth-clients", "no", "--bind",
             "127.0.0.1", "--save", "", "--dir", tmp_path], port)
    except AssertionError as error:
        if "Bad directive" in str(error):
            pytest.skip("redis-server is built without TLS")
        raise
    olly = tls_agent([process.pid, os.getpid()])
    asked = []

    def work(number):
        client = redis.Redis(host="127.0.0.1", port=port, ssl=True, ssl_ca_certs=certificate[0])
        for n in range(25):
            key = f"key-{number}-{n}"
            client.set(key, "v" * (n * n * 10))
            assert len(client.get(key)) == n * n * 10
            asked.extend([text_of(["SET", key, "v"]), text_of(["GET", key])])
        client.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    spans = olly.wait_spans(2000, lambda s: "key-" in (s["db.query.text"] or ""))
    assert_both_ends(spans, asked)
    assert all(s["tls.protocol.name"] == "tls" for s in spans)
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()


GRPC = """
import concurrent.futures, grpc, sys
cert, key = (open(p, 'rb').read() for p in sys.argv[1:3])
sys.stdin.readline()
server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler('a.B', {'C': handler}),))
port = server.add_secure_port('localhost:0', grpc.ssl_server_credentials([(key, cert)]))
server.start()
for n in range(3):
    with grpc.secure_channel(f'localhost:{port}', grpc.ssl_channel_credentials(cert)) as channel:
        assert channel.unary_unary('/a.B/C')(b'x') == b'x'
server.stop(None).wait()
sys.stdin.readline()
"""

STATIC = r"""
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	char byte;
	if (argc < 2 || read(0, &byte, 1) < 1)
		return 1;
	for (int n = 0; n < 3; n++) {
		struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		SSL *ssl = SSL_new(context);
		char answer[4096];
		to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		if (connect(fd, (void *)&to, sizeof(to)) || !SSL_set_fd(ssl, fd) || SSL_connect(ssl) != 1)
			return 2;
		SSL_write(ssl, "GET /ok/1 HTTP/1.0\r\n\r\n", 22);
		while (SSL_read(ssl, answer, sizeof(answer)) > 0)
			;
		SSL_free(ssl);
		close(fd);
	}
	while (read(0, &byte, 1) > 0)
		;
	return 0;
}
"""


def lines_about(olly, what):
    return [line for line in olly.log.read_text().splitlines() if "is not seen" in line and what in line]


def check_unseen(olly, program, name):
    program.stdin.write("go\n")
    program.stdin.flush()
    harness.wait_until(lambda: lines_about(olly, name), f"{name} is said to be unseen")
    program.stdin.write("go\n")
    program.stdin.close()
    assert program.wait(20) == 0
    assert len(lines_about(olly, name)) == 1, olly.log.read_text()
    assert not [s for s in olly.spans() if s.pid == program.pid]
    olly.assert_bytes_conserved()


def test_boringssl_within_a_wheel_is_said_to_be_unseen(processes, tls_agent, certificate):  # noqa: F811
    """grpcio has BoringSSL in its extension module, with hidden symbols."""
    pytest.importorskip("grpc")
    program = subprocess.Popen([sys.executable, "-c", GRPC, *certificate], stdin=subprocess.PIPE, text=True)
    processes.running.append(program)
    check_unseen(tls_agent([program.pid]), program, os.readlink(f"/proc/{program.pid}/exe"))


def test_static_and_stripped_is_said_to_be_unseen(processes, tls_agent, certificate, tmp_path):  # noqa: F811
    source, target = tmp_path / "client.c", tmp_path / "static-client"
    source.write_text(STATIC)
    built = subprocess.run([harness.need("gcc", "cc"), "-static", "-s", "-o", target, source, "-lssl", "-lcrypto"],
                           capture_output=True, text=True, check=False)
    if built.returncode != 0:
        pytest.skip("no static libssl here: " + built.stderr.strip()[-200:])
    _, port = processes.python("--tls", *certificate)
    program = subprocess.Popen([target, str(port)], stdin=subprocess.PIPE, text=True)
    processes.running.append(program)
    check_unseen(tls_agent([program.pid]), program, str(target))
