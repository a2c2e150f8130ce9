"""Training the norms, the head, or all others: arXiv:2003.00152."""

import jax
import numpy as np
import pytest
from flax import nnx

from normjax import build, configure, errors, models, train
from normjax.nn import model_roles
from normjax.nn import variables as nn_variables
from normjax.nn.norm_layer import NormLayer
from normjax.record import files, probes
from normjax.train import frozen, program
from tests import support

MLP = {
  **{
    key: value
    for key, value in support.RESNET.items()
    if not key.startswith("model.")
  },
  "model.name": "mlp",
  "model.num_layers": 2,
  "model.hidden_dim": 8,
  "norm.name": "batch_norm",
  "data.name": "digits",
  "optimizer.name": "sgd",
  "optimizer.weight_decay": 0.1,
  "train.gradient_clip": 0.0,
}
NAMES = ("norms", "output", "others")


def config_of(*moving, **more):
  """Trains what is named; the rest is frozen."""
  config = configure.override(
    configure.load("configs/default.py"), {**MLP, **more}
  )
  for name in NAMES:
    config.train[f"{name}_frozen"] = name not in moving
  return config


def run_three_steps(config):
  """Parameters, statistics and the rest at first and at last; norms."""
  compiled, _ = program.get(config)
  hyper = build.hyper(config)
  dataset = build.dataset(config)
  batches = [dict(dataset.train_batch(0, i, 8)) for i in range(3)]
  state = compiled.initialize(hyper, batches[0])
  first, gradient_norms = jax.device_get(state), []
  for batch in batches:
    state, metrics = compiled.step(state, batch, hyper)
    gradient_norms.append(float(metrics["grad_norm"]))
  return first, jax.device_get(state), gradient_norms, compiled


def kind_of(path):
  """By the names of the MLP's sites, which the code does not look at."""
  return {"norms": "norms", "head": "output", "layers": "others"}[
    path.split("/")[0]
  ]


SUBSETS = (("norms",), ("output",), ("others",))


@pytest.mark.parametrize("moving", SUBSETS, ids="+".join)
def test_what_is_frozen_stays_bit_for_bit(moving):
  first, last, _, compiled = run_three_steps(config_of(*moving))
  counts = {name: 0 for name in NAMES}
  for (path, before), (_, after) in zip(
    *(probes.named_leaves(s.params) for s in (first, last)), strict=True
  ):
    counts[kind_of(path)] += before.size
    if kind_of(path) in moving:
      assert np.any(before != after), path
    else:
      # Weight decay of 0.1 included.
      np.testing.assert_array_equal(before, after, err_msg=path)
  assert all(counts.values())
  # A float32 momentum for what moves, and nothing else.
  sizes = compiled.sizes(last)
  trained = sum(counts[name] for name in moving)
  assert sizes == {
    "num_params": sum(counts.values()),
    "num_trained_params": trained,
    "optimizer_state_bytes": 4 * trained,
  }
  # Running statistics are no parameters.
  for before, after in zip(
    *(jax.tree.leaves(s.stats) for s in (first, last)), strict=True
  ):
    assert np.any(before != after)


def test_the_gradient_s_norm_is_of_what_is_trained():
  norms = {
    moving: run_three_steps(config_of(*moving))[2][0]
    for moving in (*SUBSETS, NAMES)
  }
  squares = sum(norms[moving] ** 2 for moving in SUBSETS)
  # Sums of 700 squares in float32, in other orders.
  np.testing.assert_allclose(squares, norms[NAMES] ** 2, rtol=1e-5)
  # So clipping at that norm changes nothing where less is trained.
  least = min(norms[moving] for moving in SUBSETS)
  assert least < 0.9 * norms[NAMES]


def test_optimizers_of_matrices_and_accumulation_and_resume(tmp_path):
  config = config_of(
    "norms", "others", **{"train.accumulation_steps": 2, "train.num_steps": 8}
  )
  config.optimizer = support.tiny({"optimizer.name": "muon"}).optimizer
  straight = train.run(config, tmp_path / "straight")

  def stop(name, step):
    if (name, step) == ("step", 6):
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    train.run(config, tmp_path / "resumed", stop)
  resumed = train.run(config, tmp_path / "resumed")
  run = files.read_json(tmp_path / "resumed" / files.RUN)
  assert run["resumed_at_steps"] == [4]
  assert run["num_trained_params"] == run["num_params"] - (8 + 1) * 10
  assert resumed["metrics"] == straight["metrics"]
  # From what was learned on, the norms alone.
  more = config_of(
    "norms",
    **{
      "train.num_steps": 4,
      "train.initialize_from": str(tmp_path / "straight"),
      "evaluate.num_batches": config.evaluate.num_batches,
    },
  )
  train.run(more, tmp_path / "more")
  first = support.rows(tmp_path / "more", "eval")[0]
  assert first["loss"] == straight["metrics"]["eval/loss"]


# ----- Which parameters are which -----


def in_norms(model):
  """Paths of what is inside a `NormLayer`."""
  return {
    "/".join(map(str, (*prefix, *path)))
    for prefix, node in nnx.iter_modules(model)
    if isinstance(node, NormLayer)
    for path, _ in nnx.to_flat_state(nnx.state(node, nnx.Param))
  }


def counts(**options):
  """(norms, head, all) of a ResNet of the paper, from shapes."""
  model = nnx.eval_shape(
    lambda: models.make("cifar_resnet", shortcut="project", **options)
  )
  params = nn_variables.split(model)[1]["params"]
  flat = {path: leaf.size for path, leaf in probes.named_leaves(params)}
  known = model_roles.of(model)
  frozen_of = {"norms_frozen": True, "output_frozen": True}
  norms, head = (
    frozen.trained_paths(
      known, **{**frozen_of, name: False}, others_frozen=True
    )
    for name in frozen_of
  )
  assert norms == in_norms(model)
  assert None is frozen.trained_paths(
    known, norms_frozen=False, output_frozen=False, others_frozen=False
  )
  return *(sum(flat[p] for p in paths) for paths in (norms, head)), sum(
    flat.values()
  )


@pytest.mark.parametrize(
  ("depth", "width", "norms", "head", "total"),
  [
    # As counted from the official code.
    (14, 16, 1_120, 650, 175_258),
    (32, 16, 2_464, 650, 466_906),
    (56, 16, 4_256, 650, 855_770),
    (14, 1, 70, 50, 823),
    (14, 4, 280, 170, 11_374),
    (14, 64, 4_480, 2_570, 2_777_674),
  ],
)
def test_resnets_have_the_counts_of_the_paper(depth, width, norms, head, total):
  assert counts(depth=depth, width=width) == (norms, head, total)


def test_norms_within_transformers_are_found():
  model = nnx.eval_shape(
    lambda: models.make(
      "llama",
      num_layers=1,
      num_heads=2,
      model_dim=16,
      vocab_size=23,
      norm="gated_norm",
      slot_norms={"query_key": "dyt"},
    )
  )
  known = model_roles.of(model)
  paths = frozen.trained_paths(
    known, norms_frozen=False, output_frozen=True, others_frozen=True
  )
  # Sites are called so; kernels and embeddings are not.
  assert paths == {path for path, _ in known.params() if "norm/" in path}
  assert len({path.rpartition("/")[0] for path in paths}) == 5


@pytest.mark.parametrize(
  ("norm", "flags", "message"),
  [
    ("identity", "output others", "nothing is left.*has 0 parameter arrays in"),
    ("batch_norm", "norms output others", "nothing is left to train"),
  ],
)
def test_nothing_left_to_train_is_said(norm, flags, message):
  model = models.make("mlp", norm=norm)
  options = {f"{name}_frozen": name in flags.split() for name in NAMES}
  with pytest.raises(errors.UserError, match=message):
    frozen.trained_paths(model_roles.of(model), **options)


def test_a_tied_head_is_no_output_layer():
  model = nnx.eval_shape(
    lambda: models.make(
      "gpt2", num_layers=1, num_heads=2, model_dim=8, vocab_size=23
    )
  )
  both = {"norms_frozen": False, "output_frozen": True, "others_frozen": True}
  known = model_roles.of(model)
  assert frozen.trained_paths(known, **both)
  with pytest.raises(errors.UserError, match="no output layer of its own"):
    frozen.trained_paths(known, **{**both, "others_frozen": False})


def test_a_readout_is_an_output_layer():
  """Whatever it is called: the model says which layer it is."""
  model = nnx.eval_shape(
    lambda: models.make("spiking_mlp", width=20, input_shape=(12,))
  )
  trained = frozen.trained_paths(
    model_roles.of(model),
    norms_frozen=True,
    output_frozen=False,
    others_frozen=True,
  )
  assert trained == {"readout/dense/kernel", "readout/dense/bias"}


def test_the_command_shows_what_is_frozen():
  flags = {"train.others_frozen": True, "train.output_frozen": True}
  flags |= support.DECODER
  done = support.normjax("show", "configs/default.py", *support.flags(flags))
  assert done.returncode == 0, done.stderr
  # Three norms of 16 features, of one layer and before the head.
  assert "adamw: 48 parameters" in done.stdout
  assert "norm scale" in done.stdout
  assert "output kernel" in done.stdout
  assert "frozen: " in done.stdout
