"""
Fixtures: a folder on the disk under build/, loopback addresses of the test's own, and servers that are stopped at the end.
"""
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "lib"))

from nightmail import PROGRAM               # noqa: E402
from proc import BUILD                      # noqa: E402

# What needs a debug build is the suite `sandbox`, which makes one.
if b"  debug " not in subprocess.run([PROGRAM, "--help"], capture_output=True, timeout=60, check=True).stdout:
    collect_ignore = ["intruder_test.py"]


@pytest.fixture
def folder():
    """Not pytest's tmp_path: a queue wants a disk, and /tmp may have none."""
    runs = BUILD / "peers" / "run"
    runs.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=runs))
    path.chmod(0o755)                       # peers run as other users
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def addresses():
    """Loopback addresses of this process's own, so that tests beside each other can share port numbers."""
    base = os.getpid()
    return [f"127.{16 + (base >> 14 & 0x3f)}.{base >> 6 & 0xff}.{(base & 0x3f) * 4 + i}" for i in range(1, 4)]


@pytest.fixture
def start():
    """Starts servers, and stops them in the other order."""
    started = []

    def begin(server):
        started.append(server)
        return server.start()

    yield begin
    statuses = [server.stop() for server in reversed(started)]
    assert not any(statuses), "a server did not end as it should: it says why in its log, or a sanitizer does"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A peer that cannot be set up is a failure: who skips hides that."""
    report = (yield).get_result()
    if report.skipped:
        report.outcome, report.longrepr = "failed", f"{item.nodeid} was skipped: {report.longrepr}"
