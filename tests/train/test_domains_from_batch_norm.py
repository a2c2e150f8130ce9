"""A norm for each domain that starts from a trained batch norm."""

import jax
import numpy as np
import pytest

from normjax import errors, load_run, train
from normjax.train import program
from tests import support

WINE = {
  "data.name": "wine",
  "data.domain_column": "alcohol",
  "train.num_steps": 3,
  "evaluate.every_steps": 3,
}


def test_every_domain_begins_as_the_batch_norm_did(tmp_path):
  """So that the first evaluation is the last of the run before."""
  first = support.tiny_mlp(WINE, {"norm.name": "batch_norm"})
  train.run(first, tmp_path / "first")
  entry = f"domains_from_batch_norm(directory={str(tmp_path / 'first')!r})"
  second = support.tiny_mlp(
    WINE,
    {
      "norm.name": "dsbn",
      "norm.num_domains": 2,
      "train.initialize_from": (entry,),
    },
  )
  train.run(second, tmp_path / "second")
  before = support.rows(tmp_path / "first", "eval")[-1]["loss"]
  row = support.rows(tmp_path / "second", "eval")[0]
  assert (row["step"], row["loss"]) == (0, pytest.approx(before, rel=1e-5))
  learned = load_run(tmp_path / "second").state.stats
  for mean in jax.tree.leaves(learned):
    assert mean.shape[0] == 2
    assert (np.asarray(mean[0]) != np.asarray(mean[1])).any()


def test_what_does_not_fit_is_named(tmp_path):
  entry = f"domains_from_batch_norm(directory={str(tmp_path)!r})"
  steps = {"train.initialize_from": (entry,)}
  with pytest.raises(errors.UserError, match="has no norm 'dsbn'"):
    program.check_start(support.tiny_mlp(WINE, steps))
  with pytest.raises(errors.UserError, match="directory=''; needed"):
    program.check_start(
      support.tiny_mlp({"train.initialize_from": ("domains_from_batch_norm",)})
    )
