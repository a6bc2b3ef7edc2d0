"""Two plain services and their Redis, where there is one, under Olly: starts them, watches them with
the agent, drives traffic, and ends all of it on Ctrl-C (or after DEMO_SECONDS). With DEMO_TLS=1 they
talk TLS, Redis included. The traces on the terminal are the agent's own stdout.

    demo.py OLLY_BINARY
"""
import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
PR_SET_PDEATHSIG = 1


def die_with_parent():
    """No process is left behind, even when this one is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(*command, **options):
    # A session of their own: Ctrl-C comes to this process alone, which ends them in order.
    return subprocess.Popen(
        [str(c) for c in command], start_new_session=True, preexec_fn=die_with_parent,
        stdin=subprocess.DEVNULL, **options)


def stop(process, seconds=6):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def wait_for(what, ready, process, seconds=15):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"demo: {what} ended at once (exit {process.returncode})")
        if ready():
            return
        time.sleep(0.05)
    raise SystemExit(f"demo: {what} was not ready within {seconds} s")


def connect(port, tls):
    connection = socket.create_connection(("127.0.0.1", port), 1)
    return trust(tls).wrap_socket(connection, server_hostname="127.0.0.1") if tls else connection


def listening(port, tls):
    try:
        connect(port, tls).close()
        return True
    except OSError:
        return False


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return response.status == 200
    except OSError:
        return False


def certificate(home):
    """For this host alone, made on the spot."""
    files = {"CERTIFICATE": f"{home}/cert.pem", "KEY": f"{home}/key.pem"}
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", files["KEY"], "-out", files["CERTIFICATE"], "-days", "1", "-subj", "/CN=olly demo",
         "-addext", "subjectAltName=IP:127.0.0.1"], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise SystemExit("demo: no certificate: " + made.stderr)
    return files


def trust(tls):
    return ssl.create_default_context(cafile=tls["CERTIFICATE"]) if tls else None


def start_redis(home, tls):
    """The process and its port, with the stock in it; None: there is none here, or it does not run."""
    if not shutil.which("redis-server"):
        print("demo: no redis-server here: stock goes on without a database", flush=True)
        return None, None
    port = free_port()
    listen = ["--port", port]
    if tls:
        listen = ["--port", 0, "--tls-port", port, "--tls-cert-file", tls["CERTIFICATE"], "--tls-key-file",
                  tls["KEY"], "--tls-ca-cert-file", tls["CERTIFICATE"], "--tls-auth-clients", "no"]
    redis = start("redis-server", *listen, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", home,
                  "--set-proc-title", "no",  # it would write over its environment, where its name is
                  stdout=subprocess.DEVNULL, env={**os.environ, "OTEL_SERVICE_NAME": "redis"})
    try:
        wait_for("redis-server", lambda: listening(port, tls), redis)
    except SystemExit as error:
        stop(redis)
        print(f"{error}: stock goes on without a database", flush=True)
        return None, None
    with connect(port, tls) as connection:
        connection.sendall(b"MSET stock:apple 12 stock:pear 0 stock:plum 7\r\n")
        connection.recv(16)
    return redis, port


def drive(port, tls, ended):
    """Baskets that are there, one with an unknown item (502), and an order by POST."""
    base = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    context = trust(tls)
    order = json.dumps(["apple", "plum"]).encode()
    requests = [
        urllib.request.Request(base + "/basket/apple+pear"),
        urllib.request.Request(base + "/orders", data=order, method="POST"),
        urllib.request.Request(base + "/basket/plum"),
        urllib.request.Request(base + "/basket/mango"),
    ]
    n = 0
    while not ended.wait(0.8):
        try:
            urllib.request.urlopen(requests[n % len(requests)], timeout=5, context=context).read()
        except (urllib.error.HTTPError, OSError):
            pass  # the 502 is part of the show
        n += 1


def main():
    olly = sys.argv[1]
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())

    shop_port, stock_port, health_port = free_port(), free_port(), free_port()
    processes = []
    home = tempfile.mkdtemp(prefix="olly-demo-")
    try:
        tls = certificate(home) if os.environ.get("DEMO_TLS", "0") not in ("", "0") else None
        environment = {**os.environ, **(tls or {})}
        redis, redis_port = start_redis(home, tls)
        if redis:
            processes.append(redis)
        stock = start(sys.executable, HERE / "stock.py", stock_port, *([redis_port] if redis else []),
                      env=environment)
        processes.insert(0, stock)
        shop = start(sys.executable, HERE / "shop.py", shop_port, stock_port, env=environment)
        processes.insert(0, shop)
        wait_for("stock", lambda: listening(stock_port, tls), stock)
        wait_for("shop", lambda: listening(shop_port, tls), shop)

        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
            # JSON is YAML. stdout is named, so that another exporter does not silence it.
            json.dump({
                "log_level": "warn",
                "hook": {"include": [{"pid": p.pid} for p in processes]},
                "exporters": {"stdout": {"format": "text"}},
                "health": {"address": f"127.0.0.1:{health_port}"},
            }, config)
            config.flush()
            asks = f", and that one redis-server (pid {redis.pid})" if redis else ""
            print(f"demo: shop (pid {shop.pid}) asks stock (pid {stock.pid}){asks}{', over TLS' if tls else ''}; "
                  f"{'none of them' if redis else 'neither'} knows of Olly. Ctrl-C ends it.\n", flush=True)
            agent = start(olly, "--config", config.name)
            processes.insert(0, agent)
            wait_for("the agent", lambda: answers(f"http://127.0.0.1:{health_port}/ready"), agent)

            traffic = threading.Thread(target=drive, args=(shop_port, tls, ended))
            traffic.start()
            seconds = float(os.environ.get("DEMO_SECONDS", "0"))
            end = time.monotonic() + seconds if seconds else None
            while not ended.wait(0.2):
                if agent.poll() is not None:
                    ended.set()
                    traffic.join()
                    raise SystemExit(f"demo: the agent ended (exit {agent.returncode})")
                if end and time.monotonic() >= end:
                    ended.set()
            traffic.join()
            code = stop(agent)
            print("\ndemo: ended", flush=True)
            return 0 if code == 0 else 1
    finally:
        ended.set()
        for process in processes:
            stop(process)
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
