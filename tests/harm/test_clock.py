"""The library's clock (preload/linux/clock.c) is the system's: programs/clock.c compares the two."""
import pathlib
import subprocess

import harness

CLOCKSOURCE = pathlib.Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")


def test_clock(tmp_path):
    program = tmp_path / "clock"
    subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-pthread", f"-I{harness.ROOT}/src", f"-I{harness.ROOT}/preload",
                    "-o", program, pathlib.Path(__file__).parent / "programs" / "clock.c"], check=True)
    ran = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
    counter = CLOCKSOURCE.read_text() == "tsc\n"
    assert (ran.returncode, ran.stdout) == (0, f"ok, by the {'counter' if counter else 'clock'}\n"), ran
