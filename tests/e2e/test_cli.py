"""Exit statuses and messages of the command line: docs/configuration.md and `olly --help`."""
import json
import os
import signal
import subprocess
import time

import harness
import pytest

OLLY = harness.OLLY
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: eBPF")
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def olly(*words, env=None, before=(), timeout=30):
    return subprocess.run([*before, OLLY, *words], capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, **(env or {})})


def test_version():
    for words in (["version"], ["--version"]):
        done = olly(*words)
        assert done.returncode == 0 and done.stdout.startswith("olly ")


@pytest.mark.parametrize("words,said", [
    (["--bogus"], "--bogus"), (["frob"], "frob"), (["run"], "run needs a command"),
    (["run", "--nope", "ls"], "--nope"), (["replay"], "file"), (["record"], "--output"),
    (["--config-dir", "x"], "not supported yet"), (["trace", "sideways"], "start,stop,status"),
    (["profile", "start"], "not supported yet"), (["--log-level", "loud"], "loud")])
def test_wrong_usage(words, said):
    done = olly(*words)
    assert done.returncode == 2, done
    assert said in done.stderr


@pytest.mark.parametrize("text,place,said", [
    ("health:\n  adress: x\n", "2:3", "unknown key"),
    ("log_level: loud\n", "1:12", "debug"),
    ("log_level: info\nlog_level: info\n", "2:1", "log_level"),
    ("logs: {enabled: true}\n", "1:1", "not supported yet"),
    ("service_name: ${OLLY_TEST_UNSET}\n", "1:15", "OLLY_TEST_UNSET")])
def test_configuration_errors_name_their_place(tmp_path, text, place, said):
    file = tmp_path / "olly.yaml"
    file.write_text(text)
    done = olly("--config", str(file))
    assert done.returncode == 2, done
    assert f"{file}:{place}:" in done.stderr and said in done.stderr, done.stderr


@needs_root
@pytest.mark.parametrize("program,status", [
    (["sh", "-c", "exit 7"], 7), (["sh", "-c", "kill -9 $$"], 137), (["no-such-program"], 127),
    (["/etc/passwd"], 126)])
def test_run_exits_as_the_program(program, status):
    assert olly("run", "--", *program).returncode == status


@needs_root
def test_run_leaves_stdout_to_the_program():
    done = olly("run", "echo", "--output", "x")
    assert done.stdout == "--output x\n" and done.returncode == 0


@needs_root
def test_run_passes_input_and_signals_on():
    done = subprocess.run([OLLY, "run", "--", "cat"], input="hello\n", capture_output=True,
                          text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "hello\n")
    script = "trap 'echo got it; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen([OLLY, "run", "--", "sh", "-c", script], stdout=subprocess.PIPE,
                          text=True) as agent:
        assert agent.stdout.readline() == "ready\n"
        agent.terminate()
        assert agent.stdout.readline() == "got it\n"
        assert agent.wait(timeout=10) == 9


@needs_root
def test_run_whose_output_cannot_be_written(tmp_path):
    started = tmp_path / "started"
    done = olly("run", "--output", str(tmp_path / "no" / "x"), "--", "touch", str(started))
    assert done.returncode == 125 and not started.exists()
    assert "No such file" in done.stderr and "privileges" not in done.stderr


def test_check_needs_nothing():
    before = NOBODY if os.geteuid() == 0 else ()
    done = olly("check", before=before)
    assert done.returncode == 1 and "provider" in done.stdout  # no traffic would be seen
    assert "not socket" in done.stdout
    assert "CAP_BPF" in done.stdout and "run as root" in done.stdout
    assert "without CAP_SYS_PTRACE" in done.stdout
    done = olly("check", "--json", before=before, env={"XDG_RUNTIME_DIR": "/tmp"})
    assert done.returncode == 0  # libolly.so can do it
    found = json.loads(done.stdout)
    assert found["missing_capabilities"] == ["CAP_BPF", "CAP_PERFMON"]
    assert found["reads_processes"] is False and found["capture"] == ""
    assert found["reads_files"] is False
    assert found["provider"] == "socket" and found["why_not_socket"] == ""
    assert found["socket_path"] == "/tmp/olly/hook.sock"
    done = olly("check", env={"OLLY_HOOK_PROVIDER": "stub"})
    assert done.returncode == 0 and "hook.provider is stub" in done.stdout


@needs_root
def test_check_says_what_is_lost_without_a_capability():
    def check(*names):
        caps = ",".join(f"+{name}" for name in names)
        return olly("check", before=[*NOBODY, f"--inh-caps={caps}", f"--ambient-caps={caps}"]).stdout

    enough = ["bpf", "perfmon"]
    said = check(*enough)
    assert "missing capabilities  none" in said and "capture s" in said
    assert "CAP_SYS_PTRACE" in said and "OTEL_SERVICE_NAME" in said and "hook.include" in said
    said = check(*enough, "sys_ptrace")
    assert "CAP_SYS_PTRACE" not in said
    assert "without CAP_DAC_READ_SEARCH" in said and "OTEL_SERVICE_NAME" in said
    for reader in ("dac_read_search", "dac_override"):
        assert "CAP_" not in check(*enough, "sys_ptrace", reader)


def test_run_without_a_provider_does_not_start_the_program(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root, to give it up")
    done = olly("run", "--", "touch", str(tmp_path / "started"), before=NOBODY,
                env={"OLLY_HOOK_PROVIDER": "ebpf"})
    assert done.returncode == 125
    assert "CAP_BPF" in done.stderr and "not started" in done.stderr
    assert not (tmp_path / "started").exists()


@needs_root
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_agent_ends_with_0_within_5_s(tmp_path, number):
    file = tmp_path / "olly.yaml"
    file.write_text(f"health: {{enabled: false}}\nexporters: {{file: {{path: {tmp_path}/out.json}}}}\n"
                    f"hook: {{socket_path: {tmp_path}/hook.sock}}\n")  # another test's agent has the default
    agent = subprocess.Popen([OLLY, "--config", str(file)], stderr=subprocess.PIPE, text=True)
    try:
        assert "provider ebpf" in agent.stderr.readline()
        agent.send_signal(signal.SIGHUP)
        assert "SIGHUP is ignored" in agent.stderr.readline()
        began = time.monotonic()
        agent.send_signal(number)
        assert agent.wait(timeout=10) == 0
        assert time.monotonic() - began < 5
    finally:
        if agent.poll() is None:
            agent.kill()
            agent.wait()
    assert "resourceMetrics" in (tmp_path / "out.json").read_text()
