from conftest_shared import agent, processes  # noqa: F401
