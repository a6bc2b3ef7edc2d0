"""Two plain services under Olly: starts them, watches them with the agent, drives traffic, and ends
all of it on Ctrl-C (or after DEMO_SECONDS). The traces on the terminal are the agent's own stdout.

    demo.py OLLY_BINARY
"""
import ctypes
import json
import os
import pathlib
import signal
import socket
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


def start(*command):
    # A session of their own: Ctrl-C comes to this process alone, which ends them in order.
    return subprocess.Popen(
        [str(c) for c in command], start_new_session=True, preexec_fn=die_with_parent,
        stdin=subprocess.DEVNULL)


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


def listening(port):
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
        return True
    except OSError:
        return False


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return response.status == 200
    except OSError:
        return False


def drive(port, ended):
    """Baskets that are there, one with an unknown item (502), and an order by POST."""
    base = f"http://127.0.0.1:{port}"
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
            urllib.request.urlopen(requests[n % len(requests)], timeout=5).read()
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
    try:
        stock = start(sys.executable, HERE / "stock.py", stock_port)
        processes.append(stock)
        shop = start(sys.executable, HERE / "shop.py", shop_port, stock_port)
        processes.append(shop)
        wait_for("stock", lambda: listening(stock_port), stock)
        wait_for("shop", lambda: listening(shop_port), shop)

        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
            # JSON is YAML. stdout is named, so that another exporter does not silence it.
            json.dump({
                "log_level": "warn",
                "hook": {"include": [{"pid": shop.pid}, {"pid": stock.pid}]},
                "exporters": {"stdout": {"format": "text"}},
                "health": {"address": f"127.0.0.1:{health_port}"},
            }, config)
            config.flush()
            print(f"demo: shop (pid {shop.pid}) asks stock (pid {stock.pid}); "
                  "neither knows of Olly. Ctrl-C ends it.\n", flush=True)
            agent = start(olly, "--config", config.name)
            processes.insert(0, agent)
            wait_for("the agent", lambda: answers(f"http://127.0.0.1:{health_port}/ready"), agent)

            traffic = threading.Thread(target=drive, args=(shop_port, ended))
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


if __name__ == "__main__":
    sys.exit(main())
