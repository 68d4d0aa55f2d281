"""A job that fills the disk which its scratch and the run share: it is at fault, and the next job is as well off as ever."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.isolation import landlock

ROOT = Path(__file__).resolve().parents[2]
# In a mount namespace whose /tmp is small; the run lies there, too. Prints how the jobs ended.
PROGRAM = """
import json, sys
from pathlib import Path
from sandbox import job
from tests.sandbox.jobs import lay_out_data, training
from tests.sandbox.test_job import spec
from tests.scripted import PIPELINE

folder = Path('/tmp/run')
lay_out_data(folder)
fill = training(f"open({sys.argv[2]} + '/fill', 'wb').write(bytes(2 * 2**30))")
for name, pipeline in (('greedy', fill), ('honest', PIPELINE)):
    directory = folder / 'iterations/0001/jobs' / name
    job.start(directory, spec(folder, pipeline).model_copy(update={'tier': sys.argv[1]}))
    result = job.wait(directory)
    print(json.dumps([name, result.ok, result.fault.cause if result.fault else None, result.fault.message if result.fault else '']))
job.shutdown(folder)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces")
@pytest.mark.parametrize(
    ("tier", "where"),
    [
        ("landlock", "os.environ['TMPDIR']"),
        *(pytest.param("none", where, marks=pytest.mark.slow) for where in ("os.environ['TMPDIR']", "'.'")),
        pytest.param("landlock", "'.'", marks=pytest.mark.slow),
    ],
)
def test_who_fills_the_disk_is_at_fault_and_nobody_after_it(tier: str, where: str) -> None:
    if tier == "landlock" and not landlock.abi():
        pytest.skip("no Landlock here")
    small = 'mount -t tmpfs -o size=300m,mode=1777 tmpfs /tmp && exec "$@"'
    command = [
        "unshare",
        "-m",
        "--propagation",
        "private",
        "sh",
        "-c",
        small,
        "sh",
        sys.executable,
        "-c",
        PROGRAM,
        tier,
        where,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250, check=False)
    if "Operation not permitted" in done.stderr or "permission denied" in done.stderr:
        pytest.skip("no right to mount a small file system")
    assert done.returncode == 0, done.stderr[-2000:]
    greedy, honest = map(json.loads, done.stdout.splitlines())
    assert greedy[1] is False
    assert greedy[2] in {"disk", "code"}, greedy
    assert honest[1] is True, honest
