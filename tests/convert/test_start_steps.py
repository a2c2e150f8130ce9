"""What every start step of the table keeps, and what an entry may be."""

import jax
import numpy as np
import pytest
from flax import nnx

from normjax import convert, errors, models
from normjax.nn import start
from normjax.nn import variables as nn_variables
from normjax.record import files
from normjax.train import state
from normjax.train.checkpoint import Checkpoints
from tests import support
from tests.contracts import model_contract

RECORDED = support.ROOT / "tests/convert/recorded/gpt2"


def _mlp():
  return models.make("mlp", num_layers=1, hidden_dim=4)


def moved(model):
  """The same with parameters that are not where they start."""
  structure, variables = nn_variables.split(model)
  params = model_contract.moved_off(variables["params"], 0.1)
  return nn_variables.merge(structure, {**variables, "params": params})


def _run(folder):
  """A run's folder, with a checkpoint of another initialization."""
  model = models.make("mlp", num_layers=1, hidden_dim=4, rngs=nnx.Rngs(7))
  _save(model, folder)
  return f"run(directory={str(folder)!r})", _mlp()


def _save(model, folder):
  saved = state.create(nn_variables.split(model)[1], {})
  checkpoints = Checkpoints(folder / files.CHECKPOINTS, keep=1)
  checkpoints.save(saved, {})
  checkpoints.close()


def _deploy(folder):
  return "deploy", models.make("cifar_resnet", depth=8, width=4)


def _layer_norm_gpt2(entry):
  options = {"num_layers": 1, "num_heads": 2, "model_dim": 8, "vocab_size": 11}
  options |= {"tied_embeddings": False}
  return lambda folder: (entry, moved(models.make("gpt2", **options)))


# By name: (a folder) -> an entry, and a model that the step takes.
def _pretrained(folder):
  model = models.make(
    "cifar_resnet",
    depth=8,
    width=2,
    input_shape=(8, 8, 1),
    conv_norm_mode="eval",
  )
  return "pretrained(num_steps=2, batch_size=4, quarter_turns=1)", model


def _from_pretrained(folder):
  del folder
  fresh = models.make(
    "gpt2",
    vocab_size=50,
    num_layers=2,
    num_heads=4,
    model_dim=16,
    hidden_dim=40,
    max_length=12,
    norm="layer_norm(eps=1e-4)",
  )
  return f"from_pretrained(folder={str(RECORDED)!r})", fresh


def _domains(folder):
  """A run with batch norms, and the model with three domains."""
  given = {"num_layers": 1, "hidden_dim": 4}
  plain = models.make("mlp", norm="batch_norm", rngs=nnx.Rngs(7), **given)
  norm = {"name": "dsbn", "num_domains": 3}
  _save(plain, folder)
  model = models.make("mlp", norm=norm, **given)
  return f"domains_from_batch_norm(directory={str(folder)!r})", model


CASES = {
  "domains_from_batch_norm": _domains,
  "run": _run,
  "deploy": _deploy,
  "pre_rms_norm": _layer_norm_gpt2("pre_rms_norm"),
  "pre_crms_norm": _layer_norm_gpt2("pre_crms_norm"),
  "fold": _layer_norm_gpt2("fold(new_biases=True)"),
  "pretrained": _pretrained,
  "from_pretrained": _from_pretrained,
  "remove_norms": _layer_norm_gpt2("remove_norms(end_token=3)"),
  "taper_norms": _layer_norm_gpt2("taper_norms(taper_from=1, taper_steps=1)"),
  "replace_norm": _layer_norm_gpt2(
    "replace_norm('rms_norm(zero_centered=True)')"
  ),
}
# Whose parameters stay, for training to change what is computed of them.
KEEP_PARAMETERS = ("remove_norms", "taper_norms")


def _flat(variables):
  leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
  return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


@pytest.mark.parametrize("name", convert.names())
def test_a_step_is_pure_and_tells_its_shapes(name, tmp_path):
  entry, module = CASES[name](tmp_path)
  step = convert.start_step(entry)
  model, variables = nn_variables.split(module)
  before = jax.tree.map(np.array, variables)
  start.check([step], model, variables)
  announced, shapes = start.in_shapes([step], model, variables)
  changed, found = start.apply([step], model, variables)
  jax.tree.map(np.testing.assert_array_equal, variables, before)
  assert changed == announced
  start.check_same("differs", found, shapes)
  same = jax.tree.map(lambda a, b: a.dtype == b.dtype, found, shapes)
  assert all(jax.tree.leaves(same))
  assert (changed != model) == step.changes_structure
  new, old = _flat(found), _flat(before)
  kept = [(new[path], old[path]) for path in new.keys() & old.keys()]
  differ = any(np.any(a != b) for a, b in kept if a.shape == b.shape)
  assert differ == (name not in KEEP_PARAMETERS)


def toy_step(factor=2.0):
  """A user's own: all parameters times a factor."""

  def apply(model, variables):
    params = jax.tree.map(lambda x: factor * x, variables["params"])
    return model, {**variables, "params": params}

  return start.StartStep(apply, changes_structure=False)


def no_step():
  """Makes none."""
  return 3


def test_a_factory_of_ones_own_needs_no_line_here():
  step = convert.start_step(f"{__name__}:toy_step(factor=3.0)")
  model, variables = nn_variables.split(_mlp())
  _, found = start.apply([step], model, variables)
  kernel = variables["params"]["head"]["kernel"]
  np.testing.assert_array_equal(found["params"]["head"]["kernel"], 3 * kernel)
  assert convert.start_step(f"{__name__}:toy_step").apply


@pytest.mark.parametrize(
  ("entry", "message"),
  [
    ("deplyo", r"'deplyo'\. Did you mean 'deploy'\?.* as in '\./deplyo'"),
    ("", "unknown start step ''"),
    ("deploy(rate=1)", "'deploy' has no option 'rate'"),
    ("deploy(3)", "not a name, nor name"),
    ("run", "directory=''; needed: the folder of a run"),
    ("run(directory=3)", "directory=3; needed"),
    ("from_pretrained(3)", "not a name, nor name"),
    ("from_pretrained('a', folder='b')", "not a name, nor name"),
    ("no_such_module:step", "imported: ModuleNotFoundError: No module named"),
    (f"{__name__}:nothing", "cannot be imported: AttributeError: .*nothing"),
    (f"{__name__}:no_step", "is a int; needed: a normjax.nn.start.StartStep"),
    (f"{__name__}:toy_step(scale=1)", "has no option 'scale'"),
  ],
)
def test_what_is_no_step_is_said(entry, message):
  with pytest.raises(errors.UserError, match=message):
    convert.start_step(entry)
