"""A run whose norms read the domains that its data says."""

import jax
import numpy as np
import pytest

import normjax
from normjax import build, configure, errors, train
from normjax.train import drawing, program, step
from tests import support

WINE = {
  "data.name": "wine",
  "data.num_folds": 0,
  "data.domain_column": "alcohol",
  "train.batch_size": 16,
}
DSBN = {"norm.name": "dsbn", "norm.num_domains": 2}


def _config(*changes):
  return support.tiny_mlp(WINE, *changes)


def test_steps_and_evaluations_see_the_domains_of_their_batch():
  config = _config(DSBN, {"train.accumulation_steps": 2})
  recipe, initialize = program.recipe_and_initialize(config)
  hyper, data = build.hyper(config), build.dataset(config)
  start = jax.jit(initialize)(hyper)
  batch = data.train_batch(0, 0, 16)
  assert set(batch["domain"]) == {0, 1}
  take = jax.jit(lambda *given: step.train_step(recipe, *given)[0])

  def moved(ids):
    """Which domains' statistics a step moves, and which gains."""
    state = take(start, {**batch, "domain": ids}, hyper)
    return [
      {
        name: np.any(np.asarray(new != old), axis=-1).tolist()
        for (path, new), old in zip(
          jax.tree.leaves_with_path(after), jax.tree.leaves(before), strict=True
        )
        if (name := path[-1].key) in ("mean", "var", "scale")
      }
      for after, before in (
        (state.stats, start.stats),
        (state.params, start.params),
      )
    ]

  both = [True, True]
  assert moved(batch["domain"]) == [
    {"mean": both, "var": both},
    {"scale": both},
  ]
  second = [False, True]
  statistics, gains = moved(np.ones_like(batch["domain"]))
  assert statistics == {"mean": second, "var": second}
  assert gains["scale"] == second

  state = take(start, batch, hyper)
  evaluation = next(data.evaluation_batches(30))
  turned = {**evaluation, "domain": 1 - evaluation["domain"]}
  losses = [
    float(step.evaluation_step(recipe, state, each, hyper)["loss"])
    for each in (evaluation, turned)
  ]
  assert losses[0] != losses[1]


def test_a_run_trains_is_evaluated_and_read_again(tmp_path):
  config = _config({"norm.name": "scenario_bn", "norm.num_domains": 2})
  result = train.run(config, tmp_path)
  assert result["diverged_at_step"] is None
  again = normjax.load_run(tmp_path).evaluate()
  np.testing.assert_allclose(
    again["loss"], result["metrics"]["eval/loss"], rtol=1e-6
  )


def test_a_run_without_domains_has_the_name_it_had():
  resolved = configure.to_dict(support.tiny_mlp({"data.name": "wine"}))
  assert set(resolved["data"]) == {"name", "num_folds"}


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"norm.num_domains": 3},
      r"norm.num_domains=3 of norm 'dsbn' \(norms/0/norm\): data 'wine' says"
      " which of 2 domains.*Set norm.num_domains=2",
    ),
    (
      {"data.domain_column": ""},
      "data 'wine' says of no example which domain it is from",
    ),
    ({"norm.num_domains": 1}, "norm.num_domains=1 of norm 'dsbn'"),
  ],
)
def test_a_norm_of_other_domains_is_refused(changes, message):
  with pytest.raises(errors.UserError, match=message):
    drawing.of(_config(DSBN, changes))


def test_a_norm_of_one_site_is_held_to_it_and_others_are_not():
  drawing.of(_config(DSBN))
  drawing.of(_config({"norm.name": "batch_norm"}))
  sites = {"model.slot_norms.final": "film(num_domains=3)"}
  with pytest.raises(errors.UserError, match=r"'film' \(final_norm\): data"):
    drawing.of(support.tiny(sites))
