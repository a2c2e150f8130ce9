"""`train.initialize_from` as an ordered list of steps."""

import shutil

import jax
import pytest

from normjax import build, cli, configure, errors, train
from normjax.commands import arguments
from normjax.record import files
from normjax.sweep import preflight
from normjax.train import preview, program
from tests import support

KEY = "train.initialize_from"
DEFAULT = "configs/default.py"
SHORT = {
  **support.RESNET,
  "train.num_steps": 4,
  "evaluate.every_steps": 2,
  "checkpoint.every_steps": 2,
}


def make(start, *changes):
  """A short run of a ResNet that starts so."""
  flat = {**SHORT, KEY: start}
  for change in changes:
    flat |= change
  return configure.override(configure.load(DEFAULT), flat)


def stop_before_step_3(name, step):
  """As Ctrl-C would."""
  if (name, step) == ("step", 3):
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """The folder of a run of the ResNet."""
  directory = tmp_path_factory.mktemp("start") / "source"
  train.run(make(""), directory)
  return directory


def close_to_the_end(source):
  """The last evaluation of a run, as a folded model may give it.

  Eight layers of sums of up to 144 products, of logits below 16 in size; the
  loss has a slope of at most 2 in the largest error of a logit.
  """
  last = support.rows(source, "eval")[-1]
  loss = pytest.approx(last["loss"], abs=2 * 8 * 144 * 2**-24 * 16)
  return {**last, "step": 0, "loss": loss}


@pytest.mark.slow
def test_a_config_folds_what_a_run_has_learned(source, tmp_path, monkeypatch):
  """And a killed run of the folded model goes on without the folder."""
  moved = tmp_path / "source"
  shutil.copytree(source, moved)
  config = make((str(moved), "deploy"))
  train.run(config, tmp_path / "straight")
  assert support.rows(tmp_path / "straight", "eval")[0] == close_to_the_end(
    source
  )
  state = program.get(config)[0].abstract_state
  assert state.stats == {}
  assert set(state.params["stem"]["conv"]) == {"kernel", "bias"}

  with pytest.raises(KeyboardInterrupt):
    train.run(config, tmp_path / "killed", stop_before_step_3)
  shutil.rmtree(moved)
  monkeypatch.setattr(program, "_PROGRAMS", {})  # As another process.
  train.run(config, tmp_path / "killed")
  run = files.read_json(tmp_path / "killed" / files.RUN)
  assert run["resumed_at_steps"] == [2]
  for kind in ("train", "eval"):
    rows = support.rows(tmp_path / "killed", kind)
    assert rows == support.rows(tmp_path / "straight", kind)

  # What was folded in a run is met again behind the step that folds.
  on = make(("deploy", str(tmp_path / "straight")))
  program.check_start(on)
  assert build.program_key(on) == build.program_key(config)
  with pytest.raises(errors.UserError, match="its params/.* has no place"):
    program.check_start(make((str(tmp_path / "straight"), "deploy")))


@pytest.mark.slow
def test_with_several_devices(source, tmp_path):
  config = make((str(source), "deploy"), {"train.num_devices": 2})
  train.run(config, tmp_path)
  assert support.rows(tmp_path, "eval")[0] == close_to_the_end(source)
  state = program.get(config)[0].abstract_state
  assert all(
    len(leaf.sharding.device_set) == 2 for leaf in jax.tree.leaves(state)
  )


def test_the_optimizer_is_that_of_the_new_structure():
  config = make(("deploy",), {"optimizer.name": "muon"})
  _, initialize = program.recipe_and_initialize(config)
  hyper = build.hyper(config)
  state = jax.eval_shape(initialize, hyper)
  paths = [
    jax.tree_util.keystr(path)
    for path, _ in jax.tree_util.tree_leaves_with_path(state.optimizer_state)
  ]
  assert any("'stem'" in path and "'bias'" in path for path in paths)
  assert not any("'scale'" in path for path in paths)
  assert preview.preview(config).metrics == preview.preview(make("")).metrics


def test_frozen_parts_are_those_of_the_new_structure():
  """A folded network has no norm's parameters left."""
  with pytest.raises(errors.UserError, match="0 parameter arrays in norms"):
    program.recipe_and_initialize(
      make(
        ("deploy",),
        {"train.output_frozen": True, "train.others_frozen": True},
      )
    )


def test_ids_and_keys_without_a_step_stay():
  """Runs and programs of earlier versions keep their names."""
  default = configure.load(DEFAULT)
  string = configure.override(default, {KEY: "runs/x"})
  assert configure.run_id(default) == "343aa712d103"
  assert configure.run_id(string) == "372a2feb29b7"
  assert build.program_key(default) == "bc274534f97b"
  assert build.program_key(string) == "bc274534f97b"


def test_steps_that_change_the_structure_are_in_the_programs_key():
  keys = [
    build.program_key(make(start))
    for start in ("", "runs/a", ("runs/a",), (), ("runs/a", "deploy"))
  ]
  assert len(set(keys[:4])) == 1
  assert keys[4] != keys[0]
  assert keys[4] == build.program_key(make(["deploy", "runs/b"]))


def test_a_config_holds_one_or_several(tmp_path):
  """By override, in a file, on the command line, and after run.json."""
  config = make(("runs/a", "deploy"))
  tuple_id = configure.run_id(config)
  assert configure.run_id(make(["runs/a", "deploy"])) == tuple_id
  assert configure.run_id(configure.ConfigDict(configure.to_dict(config))) == (
    tuple_id
  )
  config.train.initialize_from = "runs/b"
  config.train.initialize_from = ("runs/a", "deploy")
  assert configure.run_id(config) == tuple_id

  file = tmp_path / "several.py"
  file.write_text(
    "from normjax import configure\n"
    "def get_config():\n"
    f"  config = configure.load({DEFAULT!r})\n"
    "  config.train.initialize_from = ('runs/c',)\n"
    "  return config\n"
  )
  for path in (DEFAULT, str(file)):
    for text, value in (
      ("runs/a", "runs/a"),
      ("('runs/a', 'deploy')", ("runs/a", "deploy")),
      ("['deploy']", ["deploy"]),
      ("", ""),
    ):
      loaded, typed = arguments.load_config(path, [f"--config.{KEY}={text}"])
      assert loaded.train.initialize_from == value
      assert typed == {KEY: value}
  with pytest.raises(errors.ConfigError, match=r"=\(runs/a: brackets begin"):
    arguments.load_config(DEFAULT, [f"--config.{KEY}=(runs/a"])


MLP = {"model.name": "mlp", "model.num_layers": 1, "model.hidden_dim": 16}
EVONORM = {"norm.name": "evonorm_s0", "norm.num_groups": 2}


@pytest.mark.parametrize(
  ("start", "changes", "message"),
  [
    (3, {}, "=3 must be a string or a tuple of strings"),
    (None, {}, "=None must be a string or a tuple of strings"),
    (("runs/a", 3), {}, "3] must be a string or a tuple of strings"),
    ((("deploy",),), {}, "must be a string or a tuple of strings"),
    (("deplyo",), {}, "=('deplyo',): unknown start step 'deplyo'. Did you"),
    (("deploy", "x"), {}, "=('deploy', 'x'), 'x': unknown start step 'x'."),
    (("deploy(rate=1)",), {}, "start step 'deploy' has no option 'rate'"),
    ("deploy", {}, "='deploy' (the step is written ('deploy',)): no checkpo"),
    (("/no/such", "deploy"), {}, "'/no/such': no checkpoint in /no/such/ckpt"),
    (("deploy",), MLP, "=('deploy',): deploy folds what is a ConvNorm, and ML"),
    (("deploy",), EVONORM, "=('deploy',): deploy cannot fold norms that are n"),
  ],
)  # fmt: skip
def test_a_bad_start_is_one_line_before_anything_starts(
  start, changes, message, tmp_path
):
  """By a run, and by the checks of a sweep."""
  kept = {
    k: v for k, v in SHORT.items() if changes is not MLP or "model" not in k
  }
  base = configure.load(DEFAULT)
  with base.train.ignore_type():
    base.train.initialize_from = start
  config = configure.override(base, {**kept, **changes})
  with pytest.raises(errors.UserError) as caught:
    train.run(config, tmp_path / "run")
  said = str(caught.value)
  assert said.startswith(f"{KEY}=")
  assert message in said
  assert "\n" not in said
  assert not (tmp_path / "run").exists()
  plain = configure.to_dict(config)
  with pytest.raises(errors.UserError, match="method 'a': train.initialize_"):
    preflight.check_here(
      [("method 'a'", "p", plain)], "eval/loss", [], strict=True
    )


def test_a_dry_run_of_a_sweep_refuses_it(tmp_path, capsys):
  file = tmp_path / "folded.py"
  file.write_text(
    "from normjax import configure\n"
    "from normjax.sweep import Sweep\n"
    "def get_config():\n"
    f"  return configure.load({DEFAULT!r})\n"
    "def sweep():\n"
    f"  return Sweep(methods=[{{{KEY!r}: ('deploy',)}}], seeds=(1,))\n"
  )
  out = tmp_path / "out"
  assert cli.main(["sweep", str(file), f"--out={out}", "--dry_run"]) == 2
  (line,) = capsys.readouterr().err.strip().splitlines()
  assert f"{KEY}=('deploy',): deploy folds what is a ConvNorm" in line
  assert not out.exists()
