"""Do no harm: programs behave the same with libolly.so and without it. Uses the end-to-end harness."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from conftest_shared import agent, processes  # noqa: E402,F401
