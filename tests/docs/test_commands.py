"""The commands that README, guides and tutorials show are commands."""

import re
import shlex
import subprocess
import sys

import pytest

from normjax import cli
from normjax.commands import arguments
from tests import support
from tests.docs.test_prose import PAGES

_SCALE = "docs/tutorials/scale.md"
# A line of shell that begins with blanks, or is in a block of bash, up to its
# end, with what a backslash adds; `normjax` may follow variables or srun.
_SHELL = re.compile(r"^ {4}((?:.*\\\n)*.*)$", re.MULTILINE)
_BASH = re.compile(r"```bash\n(.*?)```", re.DOTALL)
_CALL = re.compile(r"(?:^|\s)normjax ([a-z]+ .*)$", re.DOTALL)
# The reader's own sweep, with what runs in seconds.
_MY_SWEEP = f"""
from normjax import configure
from normjax.sweep import Sweep, grid


def get_config():
  config = configure.load("configs/default.py")
  changes = {{
    **{support.DECODER!r},
    "train.num_devices": 0,
    "train.num_steps": 16,
    "train.layout.min_size": 64,
  }}
  return configure.override(config, changes)


def sweep():
  return Sweep(methods=grid("norm.name", ("rms_norm", "dyt")), seeds=(1, 2))
"""


def lines(page: str) -> list[str]:
  """Of shell, each in one."""
  text = (support.ROOT / page).read_text()
  shown = _SHELL.findall(_BASH.sub(r"", text))
  for block in _BASH.findall(text):
    shown += re.findall(r"(?:.*\\\n)*.+", block)
  return [re.sub(r"\\\n\s*", "", line) for line in shown]


def calls(page: str) -> list[list[str]]:
  """The arguments of each call of normjax."""
  found = (_CALL.search(line) for line in lines(page))
  # Without what the shell does with a call.
  words = [
    shlex.split(re.sub(r" &$|\s>.*", "", each[1]), comments=True)
    for each in found
    if each
  ]
  return [each for each in words if each[0] in cli.COMMANDS]


def test_calls_are_found():
  assert len(calls(_SCALE)) > 8
  assert sum(map(len, map(calls, PAGES))) > 50


@pytest.mark.parametrize("page", [p for p in PAGES if calls(p)])
def test_a_page_shows_flags_that_there_are(page):
  for command, *rest in calls(page):
    cli._parse(command, rest)


def test_the_tutorial_of_scale_changes_keys_that_there_are():
  for command, *rest in calls(_SCALE):
    arguments.load_config(
      "configs/default.py", cli._parse(command, rest).overrides
    )


@pytest.mark.slow
def test_the_commands_of_the_tutorial_of_scale_run(tmp_path):
  (tmp_path / "my_sweep.py").write_text(_MY_SWEEP)
  program = f'normjax() {{ "{sys.executable}" -m normjax "$@"; }}\n'
  devices = "--xla_force_host_platform_device_count="
  elsewhere = ("/shared", "…", "/bin", "#", "import ", "run.", "run =", "[ $?")
  script = [line for line in lines(_SCALE) if not line.startswith("srun")]
  script = [
    each for each in script if not any(map(each.__contains__, elsewhere))
  ]
  done = subprocess.run(
    ["bash", "-ec", f"{program}{chr(10).join([*script, 'wait'])}"],
    cwd=tmp_path,
    env=support.environment()
    | {"PYTHONPATH": str(support.ROOT), "XLA_FLAGS": f"{devices}8"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
  assert "--profile=10:15: see" in done.stdout
  assert "layout: data 1 x fsdp 8" in done.stdout
  assert (tmp_path / "runs/mine/report/table.csv").exists()
  for folder in ("one", "split", "two"):
    (result,) = tmp_path.glob(f"runs/{folder}/*/result.json")
    assert '"state": "done"' in result.read_text(), folder
