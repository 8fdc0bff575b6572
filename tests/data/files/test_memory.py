"""Rows stream: what is held in memory stays below three times the file."""

import subprocess
import sys

import pytest

_PEAK = """
import resource, sys
import trustml.data.files as files
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
own = files.load_own(sys.argv[1], files.FileOptions(unit=sys.argv[2], stratify=True))
own.splits.train.fingerprint
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
@pytest.mark.parametrize("unit", ["row", "user_id"])
def test_memory_stays_below_three_times_the_file(tmp_path, unit):
    path = tmp_path / "messages.csv"
    with path.open("w") as file:
        file.write("message,intent,user_id\n")
        for n in range(300_000):
            words = " ".join(f"w{n * k % 9973:x}" for k in range(1, 20))
            file.write(f"{words},intent {n % 77},u{n % 30_000}\n")
    command = [sys.executable, "-c", _PEAK, str(path), unit]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 3 * path.stat().st_size
