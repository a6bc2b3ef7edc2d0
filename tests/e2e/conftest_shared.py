"""Fixtures of the end-to-end tests and of the harm suite."""
import os

import pytest

import harness


@pytest.fixture
def processes(tmp_path):
    tmp_path.chmod(0o755)
    running = harness.Processes(tmp_path)
    yield running
    running.stop_all()


@pytest.fixture
def agent(tmp_path):
    """agent(pids, config) starts one; all are stopped and checked at the end of the test."""
    if os.geteuid() != 0:
        pytest.skip("eBPF needs root")
    if not os.path.exists(harness.OLLY):
        pytest.fail(f"{harness.OLLY} is not built")
    started = []

    def start(pids=None, config=None, **more):
        one = harness.Agent(tmp_path, pids, config, **more)
        started.append(one)
        return one

    yield start
    errors = []
    for one in started:
        try:
            one.end()
        except AssertionError as error:
            errors.append(str(error))
    assert not errors, "\n".join(errors)
