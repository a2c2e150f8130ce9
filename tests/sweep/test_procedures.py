"""The sweeps of continual learning and of adaptation: each row can be run."""

import pytest

from normjax import configure
from normjax.sweep import preflight
from normjax.train import check, preview

FILES = ("continual", "adaptation")
SWEEPS = {
  name: configure.load_module(f"configs/sweeps/{name}.py") for name in FILES
}
ROWS = [(name, label) for name in FILES for label in SWEEPS[name].METHODS]


@pytest.mark.parametrize(("name", "label"), ROWS)
def test_each_row_is_a_config(name, label):
  module = SWEEPS[name]
  config = configure.override(module.get_config(), module.METHODS[label])
  check.check(config)


@pytest.mark.parametrize("name", FILES)
def test_its_metrics_will_be_there(name):
  """Of rows that differ as much as any."""
  module = SWEEPS[name]
  sweep = module.sweep()
  assert [*module.METHODS.values()] == sweep.methods
  points = []
  for label in [*module.METHODS][:1] + [*module.METHODS][-1:]:
    config = configure.override(module.get_config(), module.METHODS[label])
    # Of the smallest model that the methods adapt.
    small = configure.override(config, {"model.name": "mlp"})
    small = configure.override(small, {"model.num_layers": 1})
    names = preview.preview(small).metrics
    assert {sweep.metric, *sweep.other_metrics} <= {*names}
    points.append((label, label, configure.to_dict(small)))
  assert preflight.check_here(points, sweep.metric, sweep.other_metrics) == []
