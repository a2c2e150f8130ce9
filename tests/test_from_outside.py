"""Components of a user's own that do not fit: one line that says what to do."""

import re
import sys
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import linen, nnx

from normjax import (
  build,
  configure,
  errors,
  fields,
  metrics,
  norms,
  own_parts,
)
from normjax.data import dataset
from normjax.nn import placement
from normjax.norms import base
from normjax.train import check, drawing, preview, schedules
from tests import support
from tests.objectives import toys

HERE = __name__


def nothing(**options):
  """A factory of what fits nowhere."""
  del options


def one_argument(learning_rate):
  return learning_rate


def of_any_rate(learning_rate: Any):
  return optax.sgd(learning_rate)


class Demanding(nnx.Module):
  """Its call needs what nobody gives."""

  def __init__(self, **options):
    del options

  def __call__(self, x, mask):
    return x


class Silent(nnx.Module):
  """Has no call."""


class Unwrapped(linen.Module):
  """Has the fields of Linen's modules; its own name is no key of the block."""

  num_classes: int


def _draw(**changes):
  config = configure.override(configure.load("configs/default.py"), changes)
  return drawing.of(config)


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
      LINE | {"model.name": f"{HERE}:Demanding"},
      "its __call__ needs mask; it is given the inputs and, of train,",
    ),
    (
      LINE | {"model.name": f"{HERE}:Silent"},
      "Silent has no __call__; it is called as model(inputs).",
    ),
    (
      LINE | {"model.name": f"{HERE}:Unwrapped"},
      "A Linen module becomes one by normjax.models.from_linen(module).",
    ),
  ],
)
def test_what_does_not_fit_is_named(changes, message):
  with pytest.raises(errors.UserError) as error:
    _draw(**changes)
  assert message in str(error.value)


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
    ("broken:norm", r"No module named 'nowhere' \(.*broken.py, line 1\).$"),
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


def no_pair():
  """A norm that forgets the statistics."""
  return _norm(lambda variables, x, **_: x)


def too_short():
  """A norm whose output lacks a feature."""
  return _norm(lambda variables, x, **_: (x[..., 1:], {}))


def _norm(apply):
  return base.Norm("mine", {}, base.NormTraits("none"), lambda *_: {}, apply)


def transposed(learning_rate):
  """An optimizer whose updates of matrices lie on their side."""
  flip = lambda updates: jax.tree.map(lambda u: u.T, updates)  # noqa: E731
  return optax.chain(
    optax.stateless(lambda updates, _: flip(updates)), optax.sgd(learning_rate)
  )


def per_layer(step, scalars):
  """A schedule that gives more than one fraction."""
  del scalars
  return jnp.ones(3) * step


def upside_down(index, num_layers):
  """No placement."""
  del index, num_layers


def _preview(config):
  check.check(config)
  preview.preview(config)


LAST = placement.Placement("last", placement.resolve("post").layer)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"norm.name": f"{HERE}:no_pair"},
     "mine: its apply_fn gives a .*; needed: the pair (y, stats)"),
    ({"norm.name": f"{HERE}:too_short"},
     "mine: y has the shape .*; needed: that of x"),
    ({"optimizer.name": f"{HERE}:transposed", "optimizer.learning_rate": 0.1},
     f"optimizer.name='{HERE}:transposed': its update of .* has the shape .*"
     "; needed: that of its gradient"),
    ({"schedule.name": f"{HERE}:per_layer"},
     f"schedule.name='{HERE}:per_layer' gives the shape (3,); needed: one"),
    ({"model.placement": f"{HERE}:upside_down(index=1)"},
     "needs num_layers, which has no default"),
    ({"model.residual": f"{HERE}:LINE"}, "is a dict; needed: a factory"),
    ({"model.mixing": f"{HERE}:nothing"},
     "gives a NoneType; needed: a normjax.nn.mixing.Mixing."),
  ],
)  # fmt: skip
def test_what_gives_the_wrong_thing_is_named_before_it_is_compiled(
  changes, message
):
  config = support.tiny(changes)
  with pytest.raises(errors.UserError) as error:
    _preview(config)
  pattern = ".*".join(map(re.escape, message.split(".*")))
  assert re.search(pattern, str(error.value), re.DOTALL), error.value


def part(step, scalars, *, fraction: float = 0.5, steps=2, of, num_steps):
  """A schedule with options, of which one is traced, and one is not its own."""
  assert scalars["num_steps"] is num_steps
  return (step % steps) * fraction + num_steps * of


def test_parts_that_are_no_components_come_from_outside_too():
  config = support.tiny(
    {
      "model.placement": f"{HERE}:LAST",
      "model.residual": "normjax.nn.residual_scaling:layer_scale(initial=0.5)",
      "model.mixing": "normjax.nn.mixing.softmax:softmax_sink",
      "model.slot_norms.final": "normjax.norms.dyt:dyt(alpha_init=0.3)",
      "schedule.name": f"{HERE}:part(fraction=0.25, of=0)",
    }
  )
  _preview(config)


def test_a_schedule_s_options_are_keys_of_its_block():
  """A float is traced, whatever its default is; a whole number is not."""
  config = support.tiny({"schedule.name": f"{HERE}:part(fraction=1)"})
  assert config.schedule.fraction == 1.0
  assert build.scalars(config)["schedule.fraction"] == 1.0
  with pytest.raises(errors.UserError, match="needs of, .* set schedule.of"):
    check.check(config)
  others = [
    configure.override(config, {"schedule.of": 0, "schedule.fraction": f})
    for f in (0.5, 2.0)
  ]
  for each in others:
    check.check(each)
  assert len({build.program_key(each) for each in others}) == 1
  other = configure.override(others[0], {"schedule.steps": 3})
  assert build.program_key(other) != build.program_key(others[0])
  schedule = schedules.of_block(other.schedule.to_dict())
  assert float(schedule(5, {"fraction": 0.25, "num_steps": 9})) == 0.5
  with pytest.raises(errors.UserError, match="Did you mean 'fraction'"):
    configure.override(other, {"schedule.fractoin": 1.0})
  ours = configure.override(other, {"schedule.name": "linear"})
  assert set(ours.schedule) == set(support.tiny().schedule)


def test_annotations_that_are_texts_say_what_is_traced(tmp_path, monkeypatch):
  (tmp_path / "postponed.py").write_text(
    "from __future__ import annotations\n"
    "from normjax.types import StaticFloat\n"
    "def sgd(rate: float, share: StaticFloat = 0.5, b: float = 1,\n"
    "        mask: Unknown = None):\n"
    "  pass\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  found = own_parts.signature("optimizer", "postponed:sgd")
  assert found.traced({"rate": 1, "share": 0.5, "b": 1}) == {"rate", "b"}
  assert found.defaults()["b"] == 1.0


@pytest.mark.parametrize(
  ("value", "message"),
  [("fast", "must be a number, as 0.5"), (1e39, "float32"), (None, "")],
)
def test_a_schedule_s_option_is_checked(value, message):
  config = support.tiny({"schedule.name": f"{HERE}:part(of=0)"})
  with config.ignore_type():
    config.schedule.fraction = value
  if message:
    with pytest.raises(errors.ConfigError, match=message):
      fields.check(config)
  else:
    fields.check(config)
  with config.unlocked(), config.ignore_type():
    config.schedule.fractoin = 1.0
    config.schedule.fraction = 0.5
  with pytest.raises(errors.ConfigError, match=r"key 'schedule\.fractoin'"):
    fields.check(config)


def test_a_rate_is_an_argument_whatever_its_annotation():
  """A schedule multiplies it; one that was no argument ended in a KeyError."""
  config = configure.load("configs/default.py")
  config.optimizer = configure.component(
    "optimizer", f"{HERE}:of_any_rate", learning_rate=0.1
  )
  assert build.hyper(config)["optimizer.learning_rate"] == jnp.float32(0.1)
  other = configure.override(config, {"optimizer.learning_rate": 0.2})
  assert build.program_key(other) == build.program_key(config)
