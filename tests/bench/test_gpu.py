"""`normjax bench gpu`: stages that end, hang and fail; a whole one, tiny."""

import json
import os
import sys

import jax
import jax.numpy as jnp
import pytest

from normjax import cli, errors
from normjax.bench import model_families
from normjax.bench.gpu import (
  clock,
  deterministic,
  parent,
  populations,
  steps,
  worker,
)
from tests import support

# What does not come with jax, flax, optax and orbax.
_MISSING = (
  "grain", "tensorflow_datasets", "matplotlib", "jinja2",
  "mlxtend", "tensorboardX", "torch", "transformers", "pandas",
)  # fmt: skip


@pytest.fixture
def stages(monkeypatch):
  """Sets what each stage does, in place of measuring."""
  monkeypatch.setenv("PYTHONPATH", str(support.ROOT))

  def stages(limit_s=60.0, **what):
    monkeypatch.setattr(parent, "STAGES", dict.fromkeys(what, limit_s))
    commands = {
      name: ("tests.bench.gpu_stage", "{out}", each)
      for name, each in what.items()
    }
    monkeypatch.setattr(parent, "_COMMANDS", commands)

  return stages


def test_each_stage_costs_no_more_than_itself(stages, tmp_path, capsys):
  stages(device="ends", contract="fails", kernels="keeps")
  file = tmp_path / "a_chip_9.json"
  file.write_text(json.dumps({"proved": {"op": 1}, "bench": {"steps": 2}}))
  assert cli.main(["bench", "gpu", f"--out={tmp_path}"]) == 1
  said = json.loads(file.read_text())
  assert said["device_kind"] == "A Chip 9"
  assert (said["proved"], said["bench"]["steps"]) == ({"op": 1}, 2)
  failed = said["bench"]["contract"]
  assert failed["error"] == "ended with code 3"
  assert failed["log"] == ["kernel.py: no such instruction"]
  assert failed["results"][0]["item"] == "facts"
  assert said["bench"]["kernels"]["results"] == [{"op": "rms_norm"}]
  assert "error" not in said["bench"]["kernels"]
  assert f"wrote {file}" in capsys.readouterr().out


def test_a_file_that_somebody_else_wrote(stages, tmp_path):
  stages(device="ends")
  file = tmp_path / "a_chip_9.json"
  file.write_text('{"bench": 5}')
  assert parent.run({"out": tmp_path}) == 0
  assert json.loads(file.read_text())["bench"]["device"]["results"]


def test_a_budget_for_nothing(tmp_path):
  with pytest.raises(errors.UserError, match="--budget_s=0; allowed: 1 or m"):
    parent.run({"out": tmp_path, "budget_s": 0})
  assert list(tmp_path.iterdir()) == []


def test_deterministic_steps_are_those_of_train(monkeypatch):
  """In float32, also where a platform would round products if unasked."""
  seen = []

  def step_of(*_):
    def step(state, *_):
      seen.append(jax.config.jax_default_matmul_precision)
      return state, state[0]

    return step

  monkeypatch.setattr(model_families, "step_of", step_of)
  monkeypatch.setattr(model_families, "state_of", lambda *_: (jnp.zeros(2),))
  monkeypatch.setattr(steps, "ours", lambda *_: (None,) * 3)
  monkeypatch.setattr(clock, "measure", lambda *_: None)
  found = []
  deterministic.run(worker.Stage({}, tiny=True, write=found.append))
  assert [each["equal"] for each in found] == [True, True]
  assert seen == ["float32", "float32"]


@pytest.mark.parametrize(
  "name",
  ["llama", "gpt2", "vit", pytest.param("resnet", marks=pytest.mark.slow)],
)
def test_a_peer_is_the_same_model(name):
  """As many parameters, and logits for the loss in float32."""
  model, sizes = steps.TINY[name], []
  for make in (steps.ours, steps._linen):
    init, apply, _ = make(model, "bfloat16")
    params, stats = jax.eval_shape(init)
    inputs, targets = jax.eval_shape(lambda: steps.batch(model))
    logits, _ = jax.eval_shape(apply, params, stats, inputs)
    assert logits.shape == (*targets.shape, model.num_outputs)
    assert logits.dtype == jnp.float32
    sizes.append(sum(leaf.size for leaf in jax.tree.leaves(params)))
  assert sizes[0] == sizes[1]


def test_a_profiler_that_fails_takes_no_time_away(monkeypatch):
  def fails(run, calls):
    raise RuntimeError("no profile")

  monkeypatch.setattr(clock.device_clock, "profiled_s", fails)
  written = []
  with worker.Stage({}, tiny=True, write=written.append).item("x") as found:
    clock.measure(found, lambda count: 0.02 * count)
  assert written[0]["seconds"] == pytest.approx(0.02)
  assert "no profile" in written[0]["error"]
  monkeypatch.setattr(
    clock.device_clock, "profiled_s", lambda run, calls: [2.0, 1.0, 9.0]
  )
  clock.measure(found, lambda count: 0.02 * count)
  assert found["device_s"] == 2.0


def test_a_population_is_timed_by_what_a_sweep_chooses_by(monkeypatch):
  def timed(runs, most):
    assert [run.config.seed for run in runs] == [0, 1]
    assert most == 2
    return {"together": True, "alone_s": 3.0, "together_s": 2.0}

  monkeypatch.setattr(populations.choice, "_timed", timed)
  written = []
  populations.run(worker.Stage({}, tiny=True, write=written.append))
  (found,) = written
  assert found["item"] == "2 members"
  assert found["alone_over_together"] == 1.5


def test_one_that_hangs_is_stopped_and_what_it_found_is_kept(stages, tmp_path):
  stages(limit_s=2.0, device="ends", steps="hangs", kernels="ends")
  assert parent.run({"out": tmp_path}) == 1
  said = json.loads((tmp_path / "a_chip_9.json").read_text())["bench"]
  assert said["steps"]["error"] == "stopped after 2 s"
  assert [each["item"] for each in said["steps"]["results"]] == ["facts"]
  assert "error" not in said["kernels"]


def test_a_spent_budget_is_told(stages, tmp_path):
  stages(device="ends", steps="hangs")
  assert parent.run({"out": tmp_path, "budget_s": 4}) == 1
  said = json.loads((tmp_path / "unknown.json").read_text())["bench"]
  assert said["steps"]["error"] == "not begun: the budget is spent"


def test_a_cpu_is_not_measured_as_an_accelerator(stages, tmp_path, capsys):
  stages(device="on a CPU", steps="hangs")
  assert cli.main(["bench", "gpu", f"--out={tmp_path}"]) == 2
  assert "no accelerator here" in capsys.readouterr().err
  assert not any(tmp_path.iterdir())
  (tmp_path / "file").touch()
  assert cli.main(["bench", "gpu", f"--out={tmp_path}/file"]) == 2
  assert f"{tmp_path}/file" in capsys.readouterr().err


def test_an_unknown_stage_is_named(capsys):
  assert cli.main(["bench", "gpu", "--stages=stepps"]) == 2
  assert "no stage 'stepps'. Did you mean 'steps'" in capsys.readouterr().err
  assert cli.main(["bench", "gpu", "norms"]) == 2
  assert "needs one benchmark, got 2" in capsys.readouterr().err
  assert cli.main(["bench", "gqu"]) == 2
  assert "Did you mean 'gpu'" in capsys.readouterr().err


@pytest.mark.slow
def test_tiny_sizes_are_measured_without_what_such_a_machine_lacks(
  tmp_path, monkeypatch
):
  for name in _MISSING:
    (tmp_path / f"{name}.py").write_text("raise ImportError('not here')")
  path = os.pathsep.join([str(tmp_path), str(support.ROOT)])
  monkeypatch.setenv("PYTHONPATH", path)
  monkeypatch.setattr(sys, "argv", ["normjax.bench.gpu"])
  asked = ["steps", "optimizers", "populations", "deterministic"]
  options = {"out": tmp_path, "tiny": True, "stages": asked, "budget_s": 3000}
  monkeypatch.setattr(parent, "STAGES", dict.fromkeys(parent.STAGES, 900.0))
  assert parent.run(options) == 0
  said = json.loads((tmp_path / "cpu_tiny.json").read_text())["bench"]
  assert set(said) == {"device", *asked}
  steps = {each["item"]: each for each in said["steps"]["results"]}
  assert set(steps) == {
    f"{who} {model} {precision}"
    for who in ("normjax", "flax.linen")
    for model in ("llama", "gpt2", "vit", "resnet")
    for precision in ("bfloat16", "float32")
  }
  for each in steps.values():
    assert each["examples_per_s"] > 0
    assert each["unit"] in ("tokens", "images")
    assert each["device_s"] is None
    assert each["tflop_per_step"] > 0
  assert all(each["equal"] for each in said["deterministic"]["results"])
  assert "muon" in str(said["optimizers"]["results"])
