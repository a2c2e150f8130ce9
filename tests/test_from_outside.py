"""Components of a user's own that do not fit: one line that says what to do."""

import sys

import pytest
from flax import nnx

from normjax import build, configure, errors, metrics, norms
from normjax.data import dataset
from normjax.train import program
from tests.objectives import toys

HERE = __name__


def nothing(**options):
  """A factory of what fits nowhere."""
  del options


def one_argument(learning_rate):
  return learning_rate


class Untrained(nnx.Module):
  """Cannot be called as models are."""

  def __init__(self, **options):
    del options

  def __call__(self, x):
    return x


class Unsized(Untrained):
  """Takes too little of what a model is given."""

  def __init__(self, num_classes, *, rngs):
    del num_classes, rngs


class Fitting(Untrained):
  """Does not say what it reads, as a plain function cannot either."""

  def __call__(self, x, *, train=None, key=None):
    del train, key
    return x


def _draw(**changes):
  config = configure.override(configure.load("configs/default.py"), changes)
  return program.drawing(config)


LINE = {"data.name": "tests.objectives.toys:line"}


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"norm.name": f"{HERE}:nothing"},
      f"norm.name='{HERE}:nothing': norm '{HERE}:nothing' gives a NoneType;"
      " needed: a normjax.norms.Norm.",
    ),
    (
      {"model.slot_norms.final": f"{HERE}:nothing"},
      f"model.slot_norms.final='{HERE}:nothing': norm",
    ),
    (
      {"data.name": f"{HERE}:nothing"},
      "gives a NoneType without name, reads, targets, model_options",
    ),
    (
      LINE | {"model.name": f"{HERE}:nothing"},
      "gives a NoneType; needed: a flax.nnx.Module.",
    ),
    (
      LINE | {"model.name": f"{HERE}:Untrained"},
      "its __call__ does not take key, train; it is called as model(inputs,",
    ),
    (
      LINE | {"model.name": f"{HERE}:Unsized"},
      "does not take compute_dtype, input_shape, norm; a model's factory is"
      " given norm, num_classes, input_shape, compute_dtype, rngs.",
    ),
  ],
)
def test_what_does_not_fit_is_named(changes, message):
  with pytest.raises(errors.UserError) as error:
    _draw(**changes)
  assert message in str(error.value)


def test_a_model_need_not_say_what_it_reads():
  assert not _draw(**LINE, **{"model.name": f"{HERE}:Fitting"}).shapes["params"]


def test_an_optimizer_is_an_optax_transform():
  config = configure.override(
    configure.load("configs/default.py"),
    {
      "optimizer.name": f"{HERE}:one_argument",
      "optimizer.learning_rate": 0.1,
    },
  )
  with pytest.raises(errors.UserError, match="needed: an optax.Gradient"):
    build.optimizer(config)


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("nowhere:norm", "It must be installed, or beside the config file that"),
    ("beside:norm", "'beside' is in this folder, .* PYTHONPATH=. in front"),
    ("tests.support:norm", "has no attribute 'norm'.$"),
    ("broken:norm", "No module named 'nowhere'.$"),
    ("beside.norm", "One of your own is written package.module:factory.$"),
  ],
)
def test_what_cannot_be_imported_says_where_to_look(
  tmp_path, monkeypatch, name, message
):
  (tmp_path / "beside.py").write_text("")
  (tmp_path / "path").mkdir()
  (tmp_path / "path" / "broken.py").write_text("import nowhere")
  monkeypatch.chdir(tmp_path)
  path = [folder for folder in sys.path if folder]
  monkeypatch.setattr(sys, "path", [*path, str(tmp_path / "path")])
  with pytest.raises(errors.UserError, match=message):
    norms.make(name)


def squares(times):
  return lambda output, batch: times * toys.squared_length(output, batch)


def test_a_metric_made_with_options_is_called_as_it_is_written():
  metric = metrics.get(f"{HERE}:squares(times=2)")
  assert metric.name == "squares(times=2)"
  with pytest.raises(errors.UserError, match="no option 'time'.*'times'"):
    metrics.get(f"{HERE}:squares(time=2)")


def test_a_batch_that_does_not_fit_is_named():
  """Else it is a KeyError at the start, or a type that XLA was not told of."""
  data = toys.line()
  batch = data.train_batch(0, 0, 4)
  dataset.check_batch(data, batch, 4)
  with pytest.raises(errors.DataError, match="inputs of 4, .* each of 8"):
    dataset.check_batch(data, batch, 8)
  del batch["weight"]
  with pytest.raises(errors.DataError, match="targets of 4; needed: .*weight"):
    dataset.check_batch(data, batch, 4)
