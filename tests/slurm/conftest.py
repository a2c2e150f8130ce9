"""A SLURM of one node, started for these tests alone."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.sweep.conftest import run_toy, start_toy, write_config  # noqa: F401

SCRIPT = Path(__file__).parent / "cluster.sh"
DAEMONS = ("slurmctld", "slurmd", "munged", "runuser")


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
  """Calls a command of SLURM; skips where there is none to be had."""
  path = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin"))
  missing = [name for name in DAEMONS if shutil.which(name, path=path) is None]
  if missing:
    pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge")
  if os.geteuid() != 0:
    pytest.skip("slurmd starts jobs as root alone")
  # Others must be able to walk to munge's socket.
  folder = Path("/tmp") / f"normjax-slurm-{os.getpid()}"
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("PATH", path)
    patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    folder.mkdir()
    try:
      subprocess.run([SCRIPT, "up", folder], check=True)
      yield (
        lambda *command: (
          subprocess.run(
            command, check=True, text=True, stdout=subprocess.PIPE
          ).stdout
        )
      )
    finally:
      subprocess.run([SCRIPT, "down", folder], check=False)
      shutil.rmtree(folder, ignore_errors=True)
