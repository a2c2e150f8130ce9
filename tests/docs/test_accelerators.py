"""The tutorial on accelerators names kernels, keys and commands that exist."""

import ast
import importlib
import re
import shlex

import pytest
from absl import flags

import kernels_pallas
from kernels_pallas import prove
from kernels_pallas.bench import __main__ as bench
from kernels_pallas.bench import passes
from kernels_pallas.tune import __main__ as tune
from normjax import bench as benchmarks
from normjax import configure
from normjax.bench import compiled_steps, gpu
from normjax.commands import bench as command
from tests import support

TEXT = (support.ROOT / "docs/tutorials/accelerators.md").read_text()
COMMANDS = [
  shlex.split(line) for line in re.findall(r"^    (\S[^\n#]*)", TEXT, re.M)
]


def _after(*start):
  """The arguments of the commands that begin so."""
  return [c[len(start) :] for c in COMMANDS if c[: len(start)] == [*start]]


def _has_contract(op):
  """Whether a device can prove its kernels."""
  specs = importlib.import_module(f"{kernels_pallas.OPS[op]}.specs")
  return hasattr(specs, "CONTRACT")


def test_the_table_has_every_kernel():
  rows = re.findall(r"^\| `[^\n]*", TEXT, re.M)
  for op in kernels_pallas.OPS:
    (row,) = (row for row in rows if f"`{op}`" in row.split("|")[1])
    named = set(re.findall(r"`(\w+)`", "".join(row.split("|")[2:4])))
    assert named == {*passes.kernels(op)}
    assert ("yes" in row.split("|")[4]) == _has_contract(op)


def test_runs_set_what_a_config_has():
  found = _after("normjax", "train")
  assert len(found) == 4
  for path, *changes in found:
    changed = {}
    for flag in changes:
      key, value = flag.removeprefix("--config.").split("=", 1)
      changed[key] = ast.literal_eval(value) if value[0] == "(" else value
    configure.override(configure.load(path), changed)


def test_commands_are_known(capsys):
  (asked,) = _after("python", "-m", "kernels_pallas.prove")
  assert prove.main(asked) == 2
  assert "No kernel" in capsys.readouterr().err
  timed, compiled = _after("python", "-m", "kernels_pallas.bench")
  assert bench._arguments(timed).op == ["rms_norm"]
  if any(map(bench.aot.missing, ("h200", "v6e"))):
    with pytest.raises(SystemExit):
      bench._arguments(compiled)
    assert "normjax[aot]" in capsys.readouterr().err
  (timed,), compiled = _after("python", "-m", "kernels_pallas.tune")
  assert tune._arguments([timed]).op == ["rms_norm"]
  assert tune._arguments([*compiled[:2], "--repeats=1"]).spec == "4096"
  assert compiled[2] == "--target=h200,v6e"
  (name, *asked), _ = _after("normjax", "bench")
  assert name in benchmarks.ALONE
  assert f"--budget_s={gpu.parent.BUDGET_S}" in asked
  assert f"--out={gpu.parent.OUT}" in asked


def test_help_names_what_flags_take():
  values = flags.FlagValues()
  command.define_flags(values)
  for flag, known in (("stages", gpu.STAGES), ("steps", compiled_steps.MODELS)):
    for name in known:
      assert name in values[flag].help
