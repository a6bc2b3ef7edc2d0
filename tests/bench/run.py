"""The benchmarks, as one table with ratios and the aims beside (`make bench`).

    run.py --build DIR --olly FILE [--only pipeline,preload,https,library,nginx,redis,postgresql,http2,large,tax,tls,go]
           [--rounds 8] [--seconds 3]
           [--capture sockio,syscall]

On and off alternate within one run; each side's figure is the smallest of its rounds. CPU is read
from /proc/PID/schedstat. The load runs on CPU 0, the server on CPU 1, the agent wherever the
scheduler puts it, with the file exporter on.
"""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from side_by_side import (STATISTICS, Agent, alternate, children, cpu_ns, free_port, on_cpu, options,
                          program, row, rows, told, wait_for)


def nginx_conf(home, port, server, listen=""):
    path = pathlib.Path(home) / "nginx.conf"
    path.write_text(f"""
user root; worker_processes 1; daemon off; pid {home}/nginx.pid; error_log {home}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 100000000; client_max_body_size 0; sendfile on;
  client_body_temp_path {home}/body; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f;
  uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  server {{ listen 127.0.0.1:{port} {listen}; {server} }} }}
""")
    return on_cpu(1, ["nginx", "-p", home, "-c", path])


def bench_nginx(home, capture):
    port = free_port()
    with program(nginx_conf(home, port, "location / { return 200 'ok'; }"), port) as master:
        def load():
            ran = subprocess.run(
                on_cpu(0, ["wrk", "-t1", "-c32", f"-d{options.seconds}s", f"http://127.0.0.1:{port}/"]),
                capture_output=True, text=True, check=True).stdout
            done, seconds = re.search(r"(\d+) requests in ([\d.]+)s", ran).groups()
            return int(done), float(seconds)

        alternate(home, capture, children(master.pid), load, "nginx return 200",
                  "+6 %" if capture == "sockio" else "+12 %")


def bench_redis(home, capture):
    port = free_port()
    command = on_cpu(1, ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "",
                         "--appendonly", "no", "--dir", home])
    with program(command, port) as server:
        # Without pipelining, and with 16 commands in each call.
        for depth, rate, aim in ((1, 60000, "+12 %"), (16, 300000, "")):
            count = options.seconds * rate

            def load(depth=depth, count=count):
                began = time.monotonic()
                subprocess.run(on_cpu(0, ["redis-benchmark", "-p", port, "-t", "get", "-n", count, "-c", 32,
                                          "-P", depth, "-q"]), capture_output=True, check=True)
                return count, time.monotonic() - began

            alternate(home, capture, [server.pid], load, f"redis GET -P {depth}", aim)


def postgresql_tool(name):
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return found[-1] if found else shutil.which(name)


def bench_postgresql(home, capture):
    """pgbench -S over TCP, four connections. A backend comes with each and dies with it, so its CPU is what the
    postmaster has got from its children (cutime, cstime: hundredths of a second)."""
    port, data = free_port(), pathlib.Path(home) / "pg"
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    if not data.exists():
        data.mkdir()
        shutil.chown(data, "postgres", "postgres")
        subprocess.run([*user, postgresql_tool("initdb"), "-D", data, "-A", "trust", "-U", "olly"],
                       check=True, capture_output=True, cwd="/")
    pathlib.Path(data, "postmaster.pid").unlink(missing_ok=True)
    command = on_cpu(1, [*user, postgresql_tool("postgres"), "-D", data, "-p", port, "-k", data,
                         "-c", "fsync=off", "-c", "autovacuum=off", "-c", "listen_addresses=127.0.0.1"])
    with program(command, port) as server:
        tool = ["pgbench", "-h", "127.0.0.1", "-p", str(port), "-U", "olly"]
        wait_for(lambda: subprocess.run([*tool, "-i", "-s", "1", "-q", "postgres"], capture_output=True,
                                        cwd="/").returncode == 0, 60)

        def load():
            ran = subprocess.run(on_cpu(0, [*tool, "-S", "-n", "-c", "4", "-T", options.seconds, "postgres"]),
                                 capture_output=True, text=True, check=True, cwd="/").stdout
            return int(re.search(r"actually processed: (\d+)", ran).group(1)), float(options.seconds)

        alternate(home, capture, [server.pid], load, "pgbench -S", "", "query")


def bench_http2(home, capture):
    """h2load, cleartext by prior knowledge, eight connections with four streams each."""
    port = free_port()
    with program(nginx_conf(home, port, "location / { return 200 'ok'; }", "http2"), port) as master:
        count = options.seconds * 40000

        def load():
            began = time.monotonic()
            ran = subprocess.run(
                on_cpu(0, ["h2load", "-n", count, "-c", "8", "-m", "4", f"http://127.0.0.1:{port}/"]),
                capture_output=True, text=True, check=True).stdout
            assert f"{count} succeeded" in ran, ran
            return count, time.monotonic() - began

        alternate(home, capture, children(master.pid), load, "h2load, nginx return 200", "")


def bench_large(home, capture):
    """Large bodies down (sendfile) and up, CPU per GiB of nginx. How much a call moves, and so what a
    GiB costs, differs by a fifth from one transfer to the next: many of 128 MiB, smallest on each side;
    and the kernel's count of the time in the programs, those of curl's calls included."""
    port = free_port()
    big = pathlib.Path(home) / "html" / "big"
    big.parent.mkdir(exist_ok=True)
    if not big.exists():
        with open(big, "wb") as f:
            f.truncate(1 << 27)
    upload = "location /up { proxy_request_buffering off; proxy_http_version 1.1; proxy_pass http://127.0.0.1:%d; }"
    sink_port = free_port()
    sink = pathlib.Path(home) / "sink.py"
    sink.write_text(f"""
import http.server
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_PUT(self):
        left = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, 1 << 20)))
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", {sink_port}), H).serve_forever()
""")
    conf = nginx_conf(home, port, f"root {home}/html; " + upload % sink_port)
    rounds, options.rounds = options.rounds, min(options.rounds, 4)
    before = STATISTICS.read_text()
    STATISTICS.write_text("1")
    try:
        with program(on_cpu(0, [sys.executable, sink]), sink_port), program(conf, port) as master:
            def down():
                began = time.monotonic()
                subprocess.run(on_cpu(0, ["curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:{port}/big"]),
                               check=True)
                return 1 / 8, time.monotonic() - began

            def up():
                began = time.monotonic()
                subprocess.run(on_cpu(0, ["curl", "-s", "-o", "/dev/null", "-T", big,
                                          f"http://127.0.0.1:{port}/up"]), check=True)
                return 1 / 8, time.monotonic() - began

            alternate(home, capture, children(master.pid), down, "download of 128 MiB", "+2 %", "GiB", 16)
            alternate(home, capture, children(master.pid), up, "upload of 128 MiB", "+2 %", "GiB", 8)
    finally:
        STATISTICS.write_text(before)
        options.rounds = rounds


def bench_pipeline():
    program_ = pathlib.Path(options.build) / "tests" / "bench" / "bench_pipeline"
    if not program_.exists():
        row("pipeline", "", "not built", "", "500,000/s")
        return
    out = subprocess.run(on_cpu(1, [program_]), capture_output=True, text=True, check=True).stdout
    for line in out.splitlines():
        print("   " + line)
    figures = dict(re.findall(r"^(\w+)=([\d.]+)$", out, re.M))
    row("pipeline: exchanges/s on one core", "", f"{float(figures['exchanges_per_second']):,.0f}",
        f"{float(figures['exchanges_per_second']) / 500000:.2f} of the aim", "500,000/s")
    row("pipeline: ns, allocations per exchange", "",
        f"{figures['ns_per_exchange']}, {figures['allocations_per_exchange']}", "", "2,000, 0")
    row("pipeline: both ends observed, exchanges/s", "",
        f"{float(figures['both_ends_exchanges_per_second']):,.0f}", "two linked spans each", "")
    out = subprocess.run(on_cpu(1, [program_, "--protocols"]), capture_output=True, text=True, check=True).stdout
    for name, ns, rate, allocations in re.findall(
            r"^(\w+)_ns_per_exchange=(\d+)\n\w+_mb_per_second=(\d+)\n\w+_allocations_per_exchange=([\d.]+)$",
            out, re.M):
        row(f"parser {name}: ns, allocations per exchange", "", f"{ns}, {allocations}", f"{rate} MB/s",
            "3,000, 0")


def bench_preload():
    """ns that libolly.so adds to a call, agent absent and attached; takes them in turn by itself."""
    program_ = pathlib.Path(options.build) / "tests" / "bench" / "bench_preload"
    library = pathlib.Path(options.build) / "libolly.so"
    if not program_.exists() or not library.exists():
        row("libolly.so", "", "not built", "", "")
        return
    out = subprocess.run([program_, library.resolve(), pathlib.Path(options.olly).resolve()],
                         capture_output=True, text=True, check=True).stdout
    for name, bare, absent, attached, dormant in re.findall(
            r"^(\S.*?)\s{2,}([\d.]+)" + 3 * r"\s+([-+][\d.]+)" + "$", out, re.M):
        row(f"libolly.so: {name}", f"{bare} ns", f"{attached} ns",
            f"{absent} ns without an agent, {dormant} ns dormant",
            "+5 ns" if "null" in name else "+30 ns and the copy; dormant +10 ns")
    bench_hooks(library)


def hooks_round(library, path):
    """ns a call of bench_hooks: write to /dev/null, write, recv, large write, SSL_write, SSL_read."""
    folder = pathlib.Path(options.build) / "tests" / "bench"
    libraries = [*([library.resolve()] if path else []), (folder / "libnoop_calls.so").resolve()]
    ran = subprocess.run(on_cpu(1, [(folder / "bench_hooks").resolve()]), capture_output=True, text=True, check=True,
                         env={**os.environ, "LD_PRELOAD": ":".join(map(str, libraries)),
                              "OLLY_HOOK_SOCKET_PATH": path})
    return [float(n) for n in ran.stdout.split()]


def bench_hooks(library):
    """The library's own cost: behind it stand calls that do nothing."""
    with tempfile.TemporaryDirectory() as home:
        agents, least = [], {}
        for state, more in (("capturing", {}), ("dormant", {"OLLY_HOOK_ON_DEMAND": "true"})):
            agents.append(subprocess.Popen(
                on_cpu(0, [options.olly]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={**os.environ, "OLLY_HOOK_PROVIDER": "socket", "OLLY_HEALTH_ENABLED": "false",
                     "OLLY_HOOK_SOCKET_PATH": f"{home}/{state}", "OLLY_EXPORTERS_FILE_PATH": f"{home}/spans", **more}))
        end = time.monotonic() + 10
        while len(list(pathlib.Path(home).glob("*ing"))) + len(list(pathlib.Path(home).glob("*ant"))) < 2:
            if time.monotonic() > end:
                raise RuntimeError("the agents do not listen")
            time.sleep(0.05)
        for _ in range(3):
            for state in ("", "nobody", "capturing", "dormant"):
                figures = hooks_round(library, state and f"{home}/{state}")
                least[state] = list(map(min, least.get(state, figures), figures))
        for one in agents:
            one.terminate()
            one.wait()
    for i, name in enumerate(("write to /dev/null", "write 200 B", "recv 200 B", "write 16 KiB", "SSL_write 200 B, its write",
                              "SSL_read 200 B, its two recv")):
        adds = {state: ns[i] - least[""][i] for state, ns in least.items()}
        row(f"libolly.so alone: {name}", f"{least[''][i]:.1f} ns", f"{adds['capturing']:+.1f} ns",
            f"{adds['nobody']:+.1f} ns without an agent, {adds['dormant']:+.1f} ns dormant",
            "+5 ns" if "null" in name else "+30 ns and the copy; dormant +10 ns")


def certificate(home):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-keyout", f"{home}/key.pem", "-out", f"{home}/cert.pem", "-days", "1",
                    "-subj", "/CN=localhost"], check=True, capture_output=True)


def library_of(pid, name):
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
        path = line.rpartition(" ")[2]
        if name in path:
            return path
    raise RuntimeError(f"{pid} has no {name}")


@contextlib.contextmanager
def empty_probes(kind, library):
    """An empty program at the usual places of the library's calls (entry and return), or at the agent's."""
    program_ = pathlib.Path(options.build) / "tests" / "bench" / "bench_uprobes"
    with subprocess.Popen([program_, kind, library], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as probes:
        if probes.stdout.readline() != b"ready\n":
            raise RuntimeError(f"bench_uprobes {kind} ended")
        yield
        probes.stdin.close()


def bench_usual_probes(pids, load):
    """CPU per HTTPS request with empty programs: what the traps alone cost, there and here."""
    library = library_of(pids[0], "libssl")
    least = {}
    for _ in range(options.rounds):
        for kind in (None, "sites", "entry"):
            with empty_probes(kind, library) if kind else contextlib.nullcontext():
                cpu = cpu_ns(pids)
                done, _ = load()
                least[kind] = min(least.get(kind, 1e18), (cpu_ns(pids) - cpu) / done / 1e3)
    for kind, what in (("entry", "SSL_read, SSL_write by entry and uretprobe"), ("sites", "the agent's sites")):
        row(f"HTTPS, empty programs: {what}", f"{least[None]:.2f} us", f"{least[kind]:.2f} us",
            f"{100 * (least[kind] / least[None] - 1):+.1f} %", "")


def bench_tls(home, capture):
    """What the probes in OpenSSL cost: ns per call, its two socket events included, and CPU per HTTPS
    request of nginx."""
    if capture != "sockio":
        return
    certificate(home)
    port = free_port()
    conf = nginx_conf(home, port, f"ssl_certificate {home}/cert.pem; ssl_certificate_key {home}/key.pem; "
                      "location / { return 200 'ok'; }", "ssl")
    with program(conf, port) as master:
        def load():
            ran = subprocess.run(
                on_cpu(0, ["wrk", "-t1", "-c32", f"-d{options.seconds}s", f"https://127.0.0.1:{port}/"]),
                capture_output=True, text=True, check=True).stdout
            done, seconds = re.search(r"(\d+) requests in ([\d.]+)s", ran).groups()
            return int(done), float(seconds)

        alternate(home, capture, children(master.pid), load, "HTTPS, nginx return 200", "+12 %")
        bench_usual_probes(children(master.pid), load)
        library = library_of(children(master.pid)[0], "libssl")
    calls = pathlib.Path(options.build) / "tests" / "bench" / "bench_preload"
    if not calls.exists():
        row(f"TLS, {capture}: calls", "", "not built", "", "")
        return
    # Nobody is observed; everybody is, without TLS; and with it.
    least = {}
    for _ in range(options.rounds):
        for name, pids, tls in (("bare", None, False), ("unobserved", [1], True), ("sockets", [os.getpid()], False),
                                ("tls", [os.getpid()], True), ("entry", None, False)):
            agent = pids and Agent(home, capture, pids, {
                "provider": "ebpf", "ebpf": {"capture": capture, "tls": {"enabled": tls}},
                "include": [{"pid": pid} for pid in pids]})
            with empty_probes(name, library) if name == "entry" else contextlib.nullcontext():
                ran = subprocess.run([calls, "--round"], capture_output=True, text=True, check=False)
            if agent:
                agent.stop()
            if ran.returncode != 0:  # loopback was late: its sockets do not wait
                continue
            now = [float(n) for n in ran.stdout.split()[-2:]]
            least[name] = [min(a, b) for a, b in zip(least.get(name, now), now)]
    if len(least) < 5:
        row(f"TLS, {capture}: calls", "", "every round failed", "", "")
        return
    for n, call in enumerate(("SSL_write", "SSL_read")):
        bare = least["bare"][n]
        row(f"TLS, {capture}: {call} of 200 bytes", f"{bare:.0f} ns", f"{least['tls'][n]:.0f} ns",
            f"{least['tls'][n] - bare:+.0f} ns; the sockets alone {least['sockets'][n] - bare:+.0f} ns",
            "+1000 ns")
        row(f"TLS: {call} with empty programs by entry and uretprobe", f"{bare:.0f} ns",
            f"{least['entry'][n]:.0f} ns", f"{least['entry'][n] - bare:+.0f} ns", "")
        row(f"TLS, {capture}: {call}, program not observed", f"{bare:.0f} ns",
            f"{least['unobserved'][n]:.0f} ns", f"{least['unobserved'][n] - bare:+.0f} ns", "")


def wrk(scheme, port, env):
    ran = subprocess.run(on_cpu(0, ["wrk", "-t1", "-c32", f"-d{options.seconds}s", f"{scheme}://127.0.0.1:{port}/"]),
                         env={**os.environ, **env}, capture_output=True, text=True, check=True).stdout
    done, seconds = re.search(r"(\d+) requests in ([\d.]+)s", ran).groups()
    return int(done), float(seconds)


def share_of(pids, name, load):
    """How much of these processes' CPU the object `name` takes while load() runs, by samples; None without perf."""
    if not shutil.which("perf"):
        return None
    with tempfile.TemporaryDirectory() as home:
        perf = subprocess.Popen(["perf", "record", "-q", "-F", "4000", "-o", f"{home}/data", "-p",
                                 ",".join(map(str, pids))], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        load()
        perf.send_signal(signal.SIGINT)
        perf.wait()
        ran = subprocess.run(["perf", "report", "-i", f"{home}/data", "--stdio", "--sort", "dso"],
                             capture_output=True, text=True, check=False).stdout
    found = re.search(rf"([\d.]+)%\s+{re.escape(name)}", ran)
    return float(found[1]) if found else 0 if "Samples" in ran else None


def bench_go(home, capture):
    """CPU per HTTPS request of a server on Go's net/http."""
    if not shutil.which("go"):
        raise RuntimeError("no Go here")
    certificate(home)
    source = pathlib.Path(__file__).parents[1] / "e2e" / "programs" / "goserver" / "main.go"
    subprocess.run(["go", "build", "-o", f"{home}/goserver", source], check=True,
                   env={**os.environ, "GO111MODULE": "off", "GOFLAGS": "", "CGO_ENABLED": "0"})
    for scheme in ("http", "https"):
        port = free_port()
        env = {"GOMAXPROCS": "1"}
        if scheme == "https":
            env.update(TEST_TLS_CERT=f"{home}/cert.pem", TEST_TLS_KEY=f"{home}/key.pem")
        with program(on_cpu(1, [f"{home}/goserver", port]), port, env) as server:
            def load(scheme=scheme, port=port):
                return wrk(scheme, port, {})

            alternate(home, capture, [server.pid], load, f"Go net/http, {scheme}",
                      "+12 %" if scheme == "https" else "")


def with_library(what, start, load, both_ends=False):
    """CPU per request of a server (and client) with libolly.so and without, in turn. start(stack, folder, port,
    env): the server's pids; load(port, env): (requests, seconds)."""
    library = pathlib.Path(options.build) / "libolly.so"
    if not library.exists():
        row(f"{what}, libolly.so", "", "not built", "", "")
        return
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        os.chmod(home, 0o755)
        path = f"{home}/hook.sock"
        agent = Agent(home, "", [], {"provider": "socket", "socket_path": path})
        stack.callback(agent.stop)
        preload = {"LD_PRELOAD": str(library.resolve()), "OLLY_HOOK_SOCKET_PATH": path}
        sides = []
        for env in ({}, preload):
            port = free_port()
            own = pathlib.Path(home) / str(port)
            own.mkdir()
            sides.append({"env": env if both_ends else {}, "port": port, "server": [], "client": [], "rate": [],
                          "pids": start(stack, own, port, env)})
        for number in range(options.rounds + 1):  # the first one warms
            for side in sides if number % 2 == 0 else sides[::-1]:
                server, client = cpu_ns(side["pids"]), os.times()
                done, seconds = load(side["port"], side["env"])
                used = os.times()
                if number == 0:
                    continue
                side["server"].append((cpu_ns(side["pids"]) - server) / done / 1e3)
                side["client"].append((used.children_user + used.children_system - client.children_user -
                                       client.children_system) * 1e6 / done)
                side["rate"].append(done / seconds)
        for who in ("server", "client") if both_ends else ("server",):
            a, b = (min(side[who]) for side in sides)
            row(f"{what}, libolly.so: CPU per request, {who}", f"{a:.2f} us", f"{b:.2f} us",
                f"{100 * (b / a - 1):+.1f} %", "+2 %" if who == "server" else "")
        # What is above and not in this: the agent and the load share two processors with the server.
        share = share_of(sides[1]["pids"], library.name, lambda: load(sides[1]["port"], sides[1]["env"]))
        if share is not None:
            row(f"{what}, libolly.so: its code's share of the server's CPU", "", f"{share:.1f} %", "", "")
        a, b = (max(side["rate"]) for side in sides)
        row(f"{what}, libolly.so: requests/s{', both ends' if both_ends else ''}", f"{a:.0f}", f"{b:.0f}",
            f"{b / a:.3f}", "")
        row(f"{what}, libolly.so: events lost", "", told(agent.lost()), "", "0")


def nginx_start(tls=False):
    def start(stack, home, port, env):
        words = ""
        if tls:
            certificate(home)
            words = f"ssl_certificate {home}/cert.pem; ssl_certificate_key {home}/key.pem; "
        conf = nginx_conf(home, port, words + "location / { return 200 'ok'; }", "ssl" if tls else "")
        master = stack.enter_context(program(conf, port, env))
        wait_for(lambda: children(master.pid))  # it listens before it has its worker
        return children(master.pid)
    return start


def redis_start(stack, home, port, env):
    return [stack.enter_context(program(on_cpu(1, [
        "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", home]),
        port, env)).pid]


def bench_https():
    """An HTTPS server (nginx) and a client (wrk), keep-alive, both under the library."""
    with_library("HTTPS", nginx_start(tls=True), lambda port, env: wrk("https", port, env), both_ends=True)


def bench_library():
    """nginx and Redis under the library, their clients without it."""
    with_library("nginx return 200", nginx_start(), lambda port, env: wrk("http", port, env))
    for depth, rate in ((1, 60000), (16, 300000)):
        def load(port, env, depth=depth, rate=rate):
            count, began = options.seconds * rate, time.monotonic()
            subprocess.run(on_cpu(0, ["redis-benchmark", "-p", port, "-t", "get", "-n", count, "-c", 32, "-P", depth,
                                      "-q"]), env={**os.environ, **env}, capture_output=True, check=True)
            return count, time.monotonic() - began

        with_library(f"redis GET -P {depth}", redis_start, load)


def bench_tax(capture):
    """ns per call with and without the provider; bench_syscalls takes both in turn by itself."""
    program_ = pathlib.Path(options.build) / "tests" / "bench" / "bench_syscalls"
    if not program_.exists():
        row(f"tax, {capture}", "", "not built", "", "")
        return
    ran = subprocess.run([program_, "--capture", capture, "--rounds", str(options.rounds)],
                         capture_output=True, text=True, check=False)
    if ran.returncode == 77:
        raise RuntimeError(ran.stderr.strip().splitlines()[0])
    aims = {"pwrite": "+0", "getppid": "+0"}
    number = r"\s+([-+]?\d+)"
    for name, without, observed, _, _, adds in re.findall(
            r"^(\w[\w ]*?)" + 5 * number + "$", ran.stdout, re.M):
        aim = (aims.get(name, "+100 ns")) if capture == "sockio" else ""
        row(f"tax, {capture}: {name}, unobserved process", f"{without} ns", f"{adds} ns more", "", aim)
        row(f"tax, {capture}: {name}, observed process", f"{without} ns", f"{observed} ns", "", "")
    for line in re.findall("^lost: .*", ran.stdout, re.M):
        row(f"tax, {capture}: {line}", "", "", "", "0")


def main():
    wanted = options.only.split(",")
    for tool in ("wrk", "nginx", "redis-server", "redis-benchmark", "pgbench", "h2load", "taskset", "curl"):
        if not shutil.which(tool):
            raise SystemExit(f"bench: {tool} is not installed (scripts/bootstrap.sh bench)")
    if "pipeline" in wanted:
        bench_pipeline()
    if "preload" in wanted:
        bench_preload()
    if "https" in wanted:
        bench_https()
    if "library" in wanted:
        bench_library()
    if os.geteuid() != 0:
        raise SystemExit("bench: overhead needs root")
    kinds = {"nginx": bench_nginx, "redis": bench_redis, "postgresql": bench_postgresql,
             "http2": bench_http2, "large": bench_large, "tls": bench_tls, "go": bench_go,
             "tax": lambda _, capture: bench_tax(capture)}
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o755)
        for capture in options.capture.split(","):
            for kind in wanted:
                if kind in kinds:
                    try:
                        kinds[kind](home, capture)
                    except RuntimeError as error:
                        row(f"{kind}, {capture}", "", "skipped", str(error), "")
    widths = [max(len(str(r[i])) for r in rows + [("what", "without", "with", "ratio", "aim")])
              for i in range(5)]
    print()
    for r in [("what", "without", "with", "ratio", "aim")] + rows:
        print("  ".join(str(c).ljust(w) for c, w in zip(r, widths)).rstrip())


main()
