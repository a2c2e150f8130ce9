"""The command line: what it prints, refuses and returns."""

import errno
import importlib.metadata
import json
import subprocess
import sys

import pytest

import normjax
from normjax import cli, context, continual, convert, metrics, procedures, train
from normjax.commands import show
from normjax.convert import architecture
from normjax.nn import (
  initial,
  linear,
  mixing,
  placement,
  residual_scaling,
  rotary_scaling,
)
from normjax.norms import weights
from normjax.record.directory import RunDirectory, RunState
from normjax.train import gradient, schedules
from tests import support


def _run(capsys, *arguments):
  code = cli.main(list(arguments))
  captured = capsys.readouterr()
  return code, captured.out, captured.err


@pytest.mark.parametrize("arguments", [["--help"], ["sweep", "--help"], []])
def test_help_imports_nothing_heavy(arguments):
  program = (
    "import sys; from normjax import cli;"
    f"code = cli.main({arguments!r});"
    "heavy = {'jax', 'flax', 'numpy', 'orbax', 'rich'} & set(sys.modules);"
    "sys.exit(code or len(heavy))"
  )
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert "usage: normjax" in done.stdout


def test_help_lists_the_commands_own_flags(capsys):
  code, out, _ = _run(capsys, "sweep", "-h")
  assert code == 0
  assert "--workers=N" in out
  assert "Default: 1." in out
  assert "absl" not in out
  assert "flagfile" not in out


def test_the_version_names_what_numbers_depend_on():
  program = (
    "import sys; sys.argv = ['normjax', '--version'];"
    "import runpy, atexit;"
    "atexit.register(lambda: print('jax' in sys.modules));"
    "runpy.run_module('normjax', run_name='__main__')"
  )
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True
  )
  lines = done.stdout.splitlines()
  assert lines[0] == f"normjax {normjax.__version__}"
  assert f"jax {importlib.metadata.version('jax')}" in lines
  assert lines[-1] == "False"  # Nothing was imported for it.


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (["train", "c.py"], "normjax: interrupted; the same command goes on."),
    (["sweep", "c.py"], "normjax: interrupted; the same command goes on."),
    (["reproduce", "x"], "normjax: interrupted; the same command goes on."),
    (["sweep", "c.py", "--dry_run"], "normjax: interrupted."),
    (["show", "c.py"], "normjax: interrupted."),
    (["reproduce", "--list"], "normjax: interrupted."),
    (["list"], "normjax: interrupted."),
    (["report", "x"], "normjax: interrupted."),
  ],
)
def test_goes_on_is_said_only_where_it_is_true(
  capsys, monkeypatch, arguments, said
):
  def interrupted(*given):
    raise KeyboardInterrupt

  module = cli.COMMANDS[arguments[0]][0]
  monkeypatch.setattr(f"normjax.commands.{module}.run", interrupted)
  code, _, err = _run(capsys, *arguments)
  assert code == 130
  assert err.strip() == said


def test_list_shows_every_component_with_its_headline(capsys):
  code, out, _ = _run(capsys, "list", "norms")
  assert code == 0
  assert out.splitlines()[0] == "norms"
  assert any(
    "rms_norm" in line and "1910.07467" in line for line in out.split("\n")
  )


@pytest.mark.parametrize(
  ("what", "table", "said"),
  [
    ("weight_norms", weights.TABLE, "arXiv:"),
    ("learners", continual.TABLE, ": "),
    ("context", context.TABLE, " "),
    ("procedures", procedures.TABLE, "`normjax."),
    ("metrics", metrics.TABLE, ": "),
    ("start_steps", convert.TABLE, " "),
    ("architectures", architecture.TABLE, " "),
    ("placements", placement.TABLE.names(), " "),
    ("residual_scalings", residual_scaling.TABLE.names(), " "),
    ("rotary_scalings", rotary_scaling.TABLE.names(), "f"),
    ("inits", initial.TABLE.names(), " "),
    ("mixings", mixing.TABLE, " "),
    ("linears", linear.TABLE, " "),
    ("gradients", gradient.TABLE, " "),
    ("schedules", schedules.TABLE, " "),
  ],
)
def test_list_shows_tables_without_configs(capsys, what, table, said):
  code, out, _ = _run(capsys, "list", what)
  assert code == 0
  lines = out.splitlines()
  assert lines[0] == what
  assert [line.split()[0] for line in lines[1:]] == list(table)
  assert all(len(line.split()) > 1 for line in lines[1:])
  assert all(said in line for line in lines[1:])


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["swep"], "unknown command 'swep'. Did you mean 'sweep'"),
    (["list", "norm"], "cannot list 'norm'. Did you mean 'norms'"),
    (["train"], "needs one config file, got 0"),
    (["train", "a", "b"], "needs one config file, got 2"),
    (["train", "configs/nothing.py"], "no config file 'configs/nothing.py'"),
    (
      ["train", "configs/default.py", "--outt=x"],
      "no flag --outt. Did you",
    ),
    (
      ["train", "configs/default.py", "--config.optimizer.learning_rat=1"],
      "unknown config key 'optimizer.learning_rat'. Did you mean"
      " 'learning_rate'",
    ),
    (
      ["train", "configs/default.py", "--config.train.num_steps=many"],
      "many",
    ),
    (
      ["train", "configs/default.py", "--config.norm.name=rms"],
      "unknown norm 'rms'. Did you mean 'rms_norm'",
    ),
    (
      ["train", "configs/default.py", "--config.norm={'name': 'dyt'}"],
      "config key 'norm' is a block and cannot be replaced as a whole",
    ),
    (
      ["train", "configs/default.py", "--config.seed"],
      "write --config.seed as --config.seed=VALUE, in one word.",
    ),
    (
      ["train", "configs/default.py", "--config.seed", "3"],
      "write --config.seed as --config.seed=VALUE, in one word:"
      " --config.seed=3.",
    ),
    (
      ["sweep", "--config.seed", "configs/default.py"],
      "write --config.seed as --config.seed=VALUE, in one word.",
    ),
    (["sweep", "configs/default.py"], "sweep()"),
    (["report", "nowhere"], "nowhere"),
    (["train", "configs/default.py", "--out="], "--out= is empty; needed"),
  ],
)
def test_bad_input_is_one_message_and_exit_code_2(capsys, arguments, message):
  code, out, err = _run(capsys, *arguments)
  assert code == 2
  assert message in err, err
  assert "Traceback" not in err
  assert out == ""


def test_verbose_adds_the_traceback(capsys):
  code, _, err = _run(capsys, "train", "configs/nothing.py", "--verbose")
  assert code == 2
  assert "Traceback" in err


def test_a_reader_that_has_seen_enough_is_no_failure(capsys, monkeypatch):
  """Rich ends the program where a pipe is closed."""

  def closed(*_):
    try:
      raise BrokenPipeError
    except BrokenPipeError:
      raise SystemExit(1) from None

  monkeypatch.setattr("normjax.commands.listing.run", closed)
  assert _run(capsys, "list")[0] == 0


def test_help_on_a_full_disk_is_one_message(capsys, monkeypatch):
  def full():
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(cli, "_help", full)
  code, _, err = _run(capsys, "--help")
  assert code == 2
  assert err.startswith("normjax: no space left on the device of the output;")


def test_a_full_disk_is_one_message(capsys, monkeypatch, tmp_path):
  def full(config, directory, observe, window):
    raise OSError(errno.ENOSPC, "No space left on device", str(directory))

  monkeypatch.setattr(train, "run", full)
  code, _, err = _run(
    capsys, "train", "configs/default.py", f"--out={tmp_path}"
  )
  assert code == 2
  assert "no space left on the device" in err
  assert "run the same command again" in err


def test_an_unexpected_error_has_exit_code_1(capsys, monkeypatch, tmp_path):
  def broken(config, directory, observe, window):
    raise RuntimeError("surprise")

  monkeypatch.setattr(train, "run", broken)
  code, _, err = _run(
    capsys, "train", "configs/default.py", f"--out={tmp_path}"
  )
  assert code == 1
  assert err.startswith("normjax: RuntimeError: surprise")


def test_train_overrides_by_name_first_then_by_option(capsys, tmp_path):
  """The order on the command line does not matter."""
  overrides = {
    "optimizer.ns_steps": 3,
    **support.DECODER,
    "train.num_steps": 2,
    "optimizer.name": "muon",
  }
  code, out, err = _run(
    capsys,
    "train",
    f"--out={tmp_path}",
    *support.flags(overrides),
    "configs/default.py",
  )
  assert code == 0, err
  assert "done after 2 steps" in out
  (run,) = tmp_path.glob("*/run.json")
  config = json.loads(run.read_text())["config"]
  assert config["optimizer"]["name"] == "muon"
  assert config["optimizer"]["ns_steps"] == 3


def test_show_says_what_moves_each_parameter(capsys):
  code, out, err = _run(
    capsys,
    "show",
    "configs/default.py",
    *support.flags({**support.DECODER, "optimizer.name": "muon"}),
  )
  assert code == 0, err
  assert 'optimizer.name = "muon"' in out
  lines = out.splitlines()
  query = next(line for line in lines if "query/kernel" in line)
  assert "muon" in query
  head = next(line for line in lines if "head/kernel" in line)
  assert "adamw" in head
  assert "layout: all whole; state " in out
  assert "FLOPs" in out
  assert "peak" in out


def test_show_says_of_what_a_step_s_cost_is():
  """The compiler counts for one device."""
  facts = dict.fromkeys(("flops_per_step", "optimizer_state_bytes"), 1.0)
  facts |= {"peak_bytes": 2**21, "compile_s": 1.0}
  assert "FLOPs; peak 2.0 MiB, opt" in show._cost({**facts, "num_devices": 1})
  told = show._cost({**facts, "num_devices": 8})
  assert "FLOPs per device; peak 2.0 MiB per device, opt" in told


def test_a_log_has_steps_and_an_eta(capsys, monkeypatch, tmp_path):
  monkeypatch.setattr("normjax.commands.train._LINE_EVERY_S", 0.0)

  def run(config, directory, observe, window):
    own = RunDirectory(directory, directory.name)
    told = {"step": 30, "num_steps": 90, "loss": 2.345678, "eta_s": 150.0}
    own.write_status(RunState.RUNNING, **told)
    for name in ("step", "log", "evaluate", "save"):
      observe(name, 40)
    speed = {"tokens_per_s": 2e5, "mfu": 0.4, "peak_device_bytes": 3 * 10**9}
    return {"state": "done", "steps": 90, "metrics": {}, **speed}

  monkeypatch.setattr(train, "run", run)
  code, out, err = _run(
    capsys, "train", "configs/default.py", f"--out={tmp_path}"
  )
  assert code == 0, err
  first, second, speed = out.splitlines()
  assert speed == (
    "  200,000 tokens per second, MFU 40.0%, at most 3.00 GB per device"
  )
  assert first == "step 30 of 90, loss 2.346, ETA 2 min 30 s"
  assert second.startswith("done after 90 steps")
