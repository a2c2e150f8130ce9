"""The comparison of placements that comes with the project."""

import pytest
from flax import nnx

from normjax import build, configure, errors
from normjax.nn import placement

SWEEP = configure.load_module("configs/sweeps/placements.py")


def _starts(arg):
  """The start of each row."""
  shared = SWEEP.get_config(arg)
  sweep = SWEEP.sweep(arg)
  return {
    label: configure.override(shared, method).model.init
    for label, method in zip(sweep.labels, sweep.methods, strict=True)
  }


def test_all_rows_have_one_start():
  starts = _starts("")
  assert len(starts) <= 12
  assert set(starts.values()) == {"plain"}
  assert next(iter(starts)) == "pre"


def test_each_row_has_its_own_start():
  starts = _starts("own_starts")
  assert len(starts) <= 12
  assert set(starts.values()) == {"placement"}
  assert {"deep_norm", "sub_ln"} <= set(starts)


def test_full_crosses_placements_and_starts():
  starts = _starts("full")
  for name in placement.TABLE.names():
    assert starts[name] == "plain"
    # What starts plain by itself is not run twice.
    own = starts.get(f"{name}, own start")
    is_plain = placement.resolve(name).init == "plain"
    assert own == (None if is_plain else "placement")


def test_the_normalized_stream_says_what_it_needs():
  """It is refused with the gains, and named after nGPT's optimizer."""
  config = configure.override(
    SWEEP.get_config(), SWEEP.OPTIONS["normalized_stream"]
  )
  config = configure.override(config, {"model.placement": "normalized_stream"})
  options = {"vocab_size": 11}
  nnx.eval_shape(
    lambda: build.model(config, "tokens", options, nnx.Rngs(params=0))
  )
  with_gains = configure.override(config, {"norm.use_scale": True})
  with pytest.raises(errors.UserError, match="^model.placement=.*norm must be"):
    build.model(with_gains, "tokens", options, nnx.Rngs(params=0))


@pytest.mark.parametrize("arg", ["ful", "own_starts,full"])
def test_bad_arguments(arg):
  with pytest.raises(errors.UserError, match="allowed|exclude"):
    SWEEP.sweep(arg)
