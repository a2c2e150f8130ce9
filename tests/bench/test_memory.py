"""`normjax bench memory`, with a compiler that is pretended; a real one."""

import dataclasses
import json

import jax
import pytest

from kernels_pallas import aot
from kernels_pallas.bench import passes
from normjax import bench, cli, configure, errors
from normjax.bench import memory
from normjax.record import costs

COUNTS = [field.name for field in dataclasses.fields(costs.Cost)]
SWEEP = """
from normjax import configure
from normjax import sweep as space

ROWS = {
  "adamw": {"optimizer.name": "adamw"},
  "forward only": {"train.gradient": "zeroth_order"},
  "hybrid": {"train.gradient": "zeroth_order(first_order_layers=1)"},
  "blocks": {"optimizer.name": "badam", "train.block_gradients": True},
  "sparse": {"model.linear": "sltrain(rank=4, alpha=1.0, density=0.25)"},
  "bad": {"model.linear": "low_rank(rank=1000, alpha=1.0)"},
}


def get_config():
  base = configure.load("configs/default.py")
  return configure.override(base, {
    "optimizer.name": "adamw",
    "model.num_layers": 2, "model.model_dim": 16, "model.num_heads": 2,
    "model.hidden_dim": 32, "train.batch_size": 2,
  })


def sweep():
  return space.Sweep(
    methods=[*ROWS.values()], labels=[*ROWS], seeds=(0, 1),
    costs=space.Costs("bytes.json"),
  )


def large():
  return {k: configure.override(get_config(), v) for k, v in ROWS.items()}
"""


@pytest.fixture
def sweep_file(tmp_path, monkeypatch):
  """A sweep's file in the current folder."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / "mine.py").write_text(SWEEP)
  return tmp_path / "mine.py"


@pytest.fixture
def compiled(monkeypatch):
  """Nothing is compiled; the state is overwritten, and 100 bytes are left."""
  asked = []

  def compile(function, *arguments, target, donate, machine_code):
    assert (donate, machine_code) == ((0,), False)
    asked.append(arguments[0])
    state_bytes = passes.size_bytes(arguments[0])
    return aot.Compiled(
      50, 2, 100, 0, 0, (), "",
      argument_bytes=passes.size_bytes(arguments),
      output_bytes=state_bytes + 8,
      alias_bytes=state_bytes,
      moved_bytes=(40, 60),
    )  # fmt: skip

  monkeypatch.setattr(aot, "compile", compile)
  monkeypatch.setattr(aot, "missing", lambda target: None)
  return asked


def methods(path):
  return json.loads(path.read_text())["methods"]


@pytest.mark.slow
def test_bytes_of_each_method(sweep_file, compiled, capsys):
  assert cli.main(["bench", "memory", "mine.py"]) == 0
  value = json.loads((sweep_file.parent / "bytes.json").read_text())
  assert value["sweep"] == "mine"
  assert value["target"] == "h200"
  assert value["command"] == "normjax bench memory mine.py --target=h200"
  found = value["methods"]
  adamw = found["adamw"]
  count = adamw["num_params"]
  # Two moments and a count, in float32.
  assert adamw["parameters_bytes"] == adamw["gradients_bytes"] == 4 * count
  assert adamw["optimizer_state_bytes"] == 8 * count + 4
  # As papers count: 16 bits per number; the count is as it is.
  assert adamw["paper_weights_bytes"] == 2 * count
  assert adamw["paper_state_bytes"] == 4 * count + 4
  # All of it, gradients once: they are temporaries.
  for entry in (found["adamw"], found["sparse"]):
    assert entry["peak_bytes"] == sum(
      entry[f"{part}_bytes"]
      for part in (
        "parameters", "untrained", "optimizer_state", "other_state", "inputs",
        "outputs", "temporaries",
      )
    )  # fmt: skip
  assert (adamw["moved_low_bytes"], adamw["moved_high_bytes"]) == (40, 60)
  # Gradients: of none, of the head with its norm, and of one of two equal
  # blocks without the ends.
  assert found["forward only"]["gradients_bytes"] == 0
  assert found["hybrid"]["gradients_bytes"] == 4 * (256 + 1) * 16
  assert 0 < found["blocks"]["gradients_bytes"] < adamw["gradients_bytes"] / 2
  # Places of sparse entries are no parameters.
  assert found["sparse"]["untrained_bytes"] > 0
  assert found["sparse"]["parameters_bytes"] < adamw["parameters_bytes"]
  # What does not fit is named; the others went on.
  assert "rank" in found["bad"]["error"]
  assert "rank" in " ".join(capsys.readouterr().out.split())


def test_a_second_call_goes_on(sweep_file, compiled, monkeypatch):
  def measure(config, target):
    if "low_rank" in configure.render(config):
      raise errors.UserError("rank=1000 is too much")
    compiled.append(config)
    return dict.fromkeys(COUNTS, 1) | {"flops": None}

  monkeypatch.setattr(memory, "measure", measure)
  assert cli.main(["bench", "memory", "mine.py", "--methods=adamw"]) == 0
  assert [*methods(sweep_file.parent / "bytes.json")] == ["adamw"]
  assert len(compiled) == 1
  assert cli.main(["bench", "memory", "mine.py"]) == 0
  assert len(compiled) == 5
  # What failed is tried again, what is done is kept.
  assert cli.main(["bench", "memory", "mine.py"]) == 0
  assert len(compiled) == 5
  # Another program is compiled anew; a rate is none.
  text = SWEEP.replace("rank=4", "rank=2").replace(
    '{"optimizer.name": "adamw"},',
    '{"optimizer.name": "adamw", "optimizer.learning_rate": 0.5},',
  )
  sweep_file.write_text(text)
  assert cli.main(["bench", "memory", "mine.py"]) == 0
  assert len(compiled) == 6


@pytest.mark.parametrize(
  ("arguments", "words"),
  [
    (["mine.py", "--target=h100"], "--target=h100: allowed: one of h200"),
    (["mine.py", "--target=h200,v6e"], "--target=h200,v6e: allowed: one of"),
    ([], "needs one sweep file, got 0: usage: normjax bench memory SWEEP_FILE"),
    (["mine.py", "--methods=sgd"], "--methods=sgd: no sgd; allowed: adamw"),
    (["mine.py", "--out=here"], "Costs.file is 'here'; allowed: the path of a"),
    (["mine.py", "--out=other.json"], "has sweep='theirs', not 'mine'"),
    (["mine.py", "--out=text.json"], "text.json: a file of `normjax bench mem"),
    (["mine.py", "--out=half.json"], "half.json: methods has 'adamw'"),
  ],
)
def test_bad_input(arguments, words, sweep_file, compiled, capsys):
  head = {"target": "h200", "argument": "", "model": "llama"}
  for name, value in (
    ("other", {**head, "sweep": "theirs", "methods": {}}),
    ("text", {"results": []}),
    ("half", {**head, "sweep": "mine", "methods": {"adamw": {"bytes": 3}}}),
  ):
    (sweep_file.parent / f"{name}.json").write_text(json.dumps(value))
  assert cli.main(["bench", "memory", *arguments]) == 2
  assert words in " ".join(capsys.readouterr().err.split())
  assert not compiled


@pytest.mark.parametrize(
  ("old", "new", "words"),
  [
    ("def large", "def small", "defines no large()"),
    (
      "in ROWS.items()}",
      "in [*ROWS.items()][1:]}",
      "sweep() of mine.py has adamw, large() has not; allowed: the same",
    ),
  ],
)
def test_a_file_without_large(old, new, words, sweep_file, compiled, capsys):
  sweep_file.write_text(SWEEP.replace(old, new))
  assert cli.main(["bench", "memory", "mine.py"]) == 2
  assert words in " ".join(capsys.readouterr().err.split())


def test_it_runs_only_when_named():
  assert "memory" in bench.names()
  assert "memory" not in bench.TIMED


@pytest.mark.slow
@pytest.mark.skipif(
  aot.missing("h200") is not None, reason="no compiler for an H200"
)
def test_a_compiled_step_holds_what_its_trees_hold(sweep_file):
  """To the byte: parameters, state and batch are all that it is given."""
  config = configure.load(sweep_file)
  entry = memory.measure(config, "h200")
  assert costs.is_cost(entry)
  with aot.abstract("h200"):
    step = memory.compiled_steps.step(config)
  state, batch, hyper = step.arguments
  held = (
    entry["parameters_bytes"] + entry["untrained_bytes"]
    + entry["optimizer_state_bytes"] + entry["other_state_bytes"]
  )  # fmt: skip
  assert held == passes.size_bytes(state)
  # Scalars that nothing reads are no arguments.
  scalars = entry["inputs_bytes"] - passes.size_bytes(batch)
  assert 0 < scalars <= passes.size_bytes(hyper)
  # The state is overwritten: beside it are but scalars, and their table.
  metrics = jax.eval_shape(step.function, *step.arguments)[1]
  assert entry["outputs_bytes"] < 8 * len(jax.tree.leaves((state, metrics))) + (
    passes.size_bytes(metrics) + 64
  )
