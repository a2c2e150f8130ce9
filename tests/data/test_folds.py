import numpy as np
import pytest

from normjax import build, configure, data, errors, sweep
from normjax.data import folds

CLASSES = np.repeat([0, 1, 2], [7, 40, 24])


@pytest.mark.parametrize("num_folds", [3, 5, 71])
def test_folds_are_equal_and_have_equal_parts_of_each_class(num_folds):
  numbers = folds.numbers(CLASSES, num_folds)
  sizes = np.bincount(numbers, minlength=num_folds)
  assert np.ptp(sizes) <= 1
  for label in range(3):
    counts = np.bincount(numbers[label == CLASSES], minlength=num_folds)
    assert np.ptp(counts) <= 1


def test_each_example_validates_at_one_seed_and_tunes_at_another():
  numbers = folds.numbers(CLASSES, 5)
  every = [folds.parts(numbers, seed, 5) for seed in range(5)]
  for parts in every:
    together = np.concatenate([*parts.values()])
    assert sorted(together) == list(range(len(CLASSES)))
  for split in ("validation", "tuning"):
    seen = np.concatenate([parts[split] for parts in every])
    assert sorted(seen) == list(range(len(CLASSES)))


@pytest.mark.parametrize("num_folds", [3, 4, 5, 7, 150])
def test_trials_never_see_what_their_final_run_is_measured_on(num_folds):
  methods = [{"model.norm": "a"}, {"model.norm": "b"}]
  plan = sweep.Sweep(methods, range(12), sweep.Tune({"x": (1, 2)}))
  made = data.make("iris", num_folds=num_folds)
  for tuning in plan.tunings:
    (own,) = tuning.seeds
    assert made.for_seed(own) is made.for_seed(tuning.for_seed)
  # As many folds validate as there are seeds.
  seen = {id(made.for_seed(seed)) for seed in plan.seeds}
  assert len(seen) == min(12, num_folds)


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes"])
def test_small_sets_are_cross_validated_by_the_seed(name):
  config = configure.load("configs/default.py")
  config = configure.override(
    config, {"data.name": name, "model.name": "mlp", "seed": 7}
  )
  made = build.dataset(config)
  assert made.fold["number"] == 2
  sizes = made.fold["sizes"]
  assert sizes["validation"] == len(made.validation[1])
  assert sum(sizes.values()) == made.provenance["examples"]
  other = build.dataset(configure.override(config, {"seed": 12}))
  assert other is made
  tuning = made.on_split("tuning")
  next_one = build.dataset(configure.override(config, {"seed": 8}))
  for index in (0, 1):
    np.testing.assert_array_equal(
      tuning.validation[index], next_one.validation[index]
    )
  # The provenance is that of the set: seeds must not seem to differ in it.
  assert next_one.provenance == made.provenance
  # Inputs are standardized by what the fold trains on.
  size = len(made.train[1])
  inputs = made.train_batch(7, 0, size)["inputs"]
  np.testing.assert_allclose(inputs.mean(0), 0, atol=1e-5)
  # Without folds one part validates at all seeds, and none tunes.
  fixed = data.make(name, num_folds=0)
  assert fixed.for_seed(3) is fixed
  with pytest.raises(errors.UserError, match="no split 'tuning'"):
    fixed.on_split("tuning")


@pytest.mark.parametrize("num_folds", [-1, 1, 2, 151, 2.0])
def test_a_number_of_folds_that_leaves_nothing_is_named(num_folds):
  with pytest.raises(errors.UserError, match=f"num_folds={num_folds}"):
    data.make("iris", num_folds=num_folds)
