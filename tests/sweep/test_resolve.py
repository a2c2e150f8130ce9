"""Resolving many points gives what resolving each by itself gives."""

import ml_collections
import pytest

from normjax import configure, errors
from normjax.sweep import grid, product
from normjax.sweep.resolve import Resolver
from tests import support

RATE = "optimizer.learning_rate"


def alone(config, overrides):
  return configure.to_dict(configure.override(config, overrides))


def test_every_point_is_what_it_would_be_alone():
  config = support.tiny()
  points = product(
    grid("norm.name", ["rms_norm", "dyt"]),
    grid("optimizer.learning_rate", [1e-3, 1, 0.5]),
    grid("model.hidden_dim", [None, 24, 32]),  # a placeholder
    grid("log.probes", [(), ("scale/",)]),
    grid("seed", [0, 3]),
  )
  resolver = Resolver(config)
  for overrides in points:
    assert resolver.plain(overrides) == alone(config, overrides)
  # What was given before has not been changed since.
  assert resolver.plain({}) == configure.to_dict(config)


@pytest.mark.parametrize(
  "heads",
  [
    ("linear", "prototype"),
    ("prototype", "normalized_softmax", "linear"),
  ],
)
@pytest.mark.parametrize("first", ["linear", "equiangular"])
def test_a_leaf_at_a_default_that_is_left_out_stays_out(first, heads):
  """Whatever the base has, and in whatever order values come."""
  config = configure.override(
    configure.load("configs/sweeps/heads.py"), {"model.head": first}
  )
  resolver = Resolver(config)
  for head in heads:
    overrides = {"model.head": head, RATE: 0.1}
    assert resolver.plain(overrides) == alone(config, overrides)


def linked():
  config = ml_collections.ConfigDict({"a": {"x": 1, "y": 0}, "z": 2.0})
  config.a.y = config.a.get_oneway_ref("x") * 2
  return config


@pytest.mark.parametrize(
  "overrides", [{"a.x": 1}, {"a.x": 3}, {"a.x": 3, "a.y": 1, "z": 1}, {"z": 3}]
)
def test_a_leaf_that_follows_another_does_so_here(overrides):
  resolver = Resolver(linked())
  for _ in range(2):
    assert resolver.plain(overrides) == alone(linked(), overrides)


@pytest.mark.parametrize(
  "overrides",
  [
    {"optimizer.learning_rat": 1.0},
    {"optimizer.learning_rate": "high"},
    {"optimizer": 1.0},
    {"model.hidden_dim": 2.5},
    {"train.num_steps": True},
    {"norm.name": "no_norm"},
    {3: 1.0},
  ],
)
def test_what_is_refused_alone_is_refused_here(overrides):
  config = support.tiny()
  with pytest.raises(errors.UserError) as expected:
    alone(config, overrides)
  resolver = Resolver(config)
  good = {"optimizer.learning_rate": 0.5, "model.hidden_dim": 8}
  for _ in range(2):
    with pytest.raises(type(expected.value)) as found:
      resolver.plain(overrides)
    assert str(found.value) == str(expected.value)
    resolver.plain(good | {"train.num_steps": 7})


# A config lacks the second, and all trials have it.
@pytest.mark.parametrize("more", [{}, {"evaluate.split": "tuning"}])
def test_a_thousand_points_copy_the_config_a_few_times(monkeypatch, more):
  copied = []
  override = configure.override

  def counted(config, overrides):
    copied.append(len(config.keys()))
    return override(config, overrides)

  resolver = Resolver(support.tiny())
  monkeypatch.setattr(configure, "override", counted)
  made = [
    resolver.plain(
      {"optimizer.learning_rate": 1 / (1 + seed % 7), "seed": seed, **more}
    )
    for seed in range(1, 1001)
  ]
  # The base, and once per leaf; each value is then set in a config of one leaf.
  assert len([size for size in copied if size > 1]) == 3
  assert made[500]["seed"] == 501
  assert (
    made[500]["evaluate"].items()
    >= {key.rpartition(".")[2]: value for key, value in more.items()}.items()
  )
  assert made[500]["norm"] is made[501]["norm"]
