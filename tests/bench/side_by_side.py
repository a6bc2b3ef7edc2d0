"""What the benchmarks of run.py are made of: its options, the rows of its table, the agent, and one load with
and without it in turn."""
import argparse
import collections
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.request

parser = argparse.ArgumentParser()
parser.add_argument("--build", required=True)
parser.add_argument("--olly", required=True)
parser.add_argument("--only", default="pipeline,preload,https,library,nginx,redis,postgresql,http2,large,tax,tls,go")
parser.add_argument("--rounds", type=int, default=8)
parser.add_argument("--seconds", type=int, default=3)
parser.add_argument("--capture", default="sockio,syscall")
options = parser.parse_args()
rows = []


def row(what, without, with_, ratio, aim):
    rows.append((what, without, with_, ratio, aim))
    print("  ", " | ".join(map(str, rows[-1])), flush=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_ns(pids):
    """CPU time so far of all threads of these processes and of what children of theirs have ended, in ns."""
    total = 0
    for pid in pids:
        total += reaped_ns(pid)
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError):
                total += int((task / "schedstat").read_text().split()[0])
    return total


def reaped_ns(pid):
    """CPU time of its children that have ended, in ns."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def children(pid):
    return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def on_cpu(cpu, command):
    return ["taskset", "-c", str(cpu), *map(str, command)]


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("bench: something did not start in time")
        time.sleep(0.02)


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as response:
            return response.read().decode()
    except OSError:
        return ""


@contextlib.contextmanager
def program(command, port, env=None):
    process = subprocess.Popen([*map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env={**os.environ, **(env or {})})

    def up():
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return True
        except OSError:
            return False

    try:
        wait_for(up)
        yield process
    finally:
        process.terminate()
        process.wait()


STATISTICS = pathlib.Path("/proc/sys/kernel/bpf_stats_enabled")


def statistics():
    return STATISTICS.read_text().strip() == "1"


def told(lost):
    return ", ".join(f"{n:.0f} {cause}" for cause, n in sorted(lost.items())) or "0"


class Agent:
    def __init__(self, home, capture, pids, hook=None):
        self.port = free_port()
        config = pathlib.Path(home) / "olly.yaml"
        self.output = pathlib.Path(home) / "spans.jsonl"
        self.output.unlink(missing_ok=True)
        config.write_text(json.dumps({
            "log_level": "warn",
            "hook": hook or {"provider": "ebpf", "ebpf": {"capture": capture},
                             "include": [{"pid": pid} for pid in pids]},
            "exporters": {"file": {"path": str(self.output)}},
            "health": {"address": f"127.0.0.1:{self.port}"}}))
        self.process = subprocess.Popen([options.olly, "--config", str(config)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_for(lambda: get(self.port, "/ready") or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise RuntimeError(f"the agent cannot use {capture} here (exit {self.process.returncode})")

    def cpu(self):
        return cpu_ns([self.process.pid])

    def lost(self):
        """By cause; what is not 0."""
        causes = {}
        for cause, n in re.findall(r'^olly_drops_total\{.*?cause="(\w+)".*\} (\S+)$', get(self.port, "/metrics"), re.M):
            causes[cause] = causes.get(cause, 0) + float(n)
        return collections.Counter({cause: n for cause, n in causes.items() if n})

    def hooks_ns(self):
        """Time in the agent's kernel programs, of all processes, by the kernel's own statistics."""
        spent = 0
        for file in pathlib.Path(f"/proc/{self.process.pid}/fdinfo").iterdir():
            found = re.search(r"run_time_ns:\s+(\d+)", file.read_text())
            spent += int(found[1]) if found else 0
        return spent

    def rss_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def alternate(home, capture, pids, load, what, aim, unit="request", times=1, agent_aim="3 us"):
    """load() -> (units done, seconds). CPU per unit of `pids` with and without the agent, in turn, the
    load `times` times on each turn."""
    off, on, rate_off, rate_on, agent_cpu, agent_per, hooks, lost, rss = [], [], [], [], [], [], [], collections.Counter(), 0
    load()  # warm
    for number in range(options.rounds):
        sides = (False, True) if number % 2 == 0 else (True, False)
        for watched in sides:
            agent = Agent(home, capture, pids) if watched else None
            if agent:
                time.sleep(0.3)
            own, spent, all_done = agent.cpu() if agent else 0, 0, 0
            for _ in range(times):
                cpu = cpu_ns(pids)
                done, seconds = load()
                time.sleep(0.3)  # the agent reads what is left; a server waits for processes that ended
                (on if watched else off).append((cpu_ns(pids) - cpu) / done)
                (rate_on if watched else rate_off).append(done / seconds)
                spent, all_done = spent + seconds, all_done + done
            if agent and statistics():
                hooks.append(agent.hooks_ns() / sum(on[-times:]) / done)
            if agent:
                agent_cpu.append((agent.cpu() - own) / 1e9 / spent)
                agent_per.append((agent.cpu() - own) / all_done)
                lost += agent.lost()
                rss = max(rss, agent.rss_mib())
                agent.stop()
    a, b = min(off), min(on)
    name = f"{what}, {capture}"
    scale, text = (1e3, "us") if a < 1e6 else (1e6, "ms")
    row(f"{name}: CPU per {unit}", f"{a / scale:.2f} {text}", f"{b / scale:.2f} {text}",
        f"{100 * (b / a - 1):+.1f} %", aim)
    row(f"{name}: {unit}s/s", f"{max(rate_off):.1f}", f"{max(rate_on):.1f}",
        f"{max(rate_on) / max(rate_off):.3f}", "")
    if hooks:
        row(f"{name}: kernel programs, share of that CPU", "", "", f"{100 * min(hooks):+.1f} %", aim)
    row(f"{name}: agent CPU (cores), peak RSS", "", f"{min(agent_cpu):.2f}, {rss:.1f} MiB", "", "< 40 MiB")
    if unit != "GiB":
        row(f"{name}: agent CPU per {unit}", "", f"{min(agent_per) / 1e3:.2f} us", "", agent_aim)
    row(f"{name}: events lost", "", told(lost), "", "0")
