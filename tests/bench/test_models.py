"""`normjax bench models` at tiny sizes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import cli
from normjax.bench import models

SIZES = models.SIZES["tiny"]


@pytest.mark.slow
def test_models_are_measured(tmp_path, capsys):
  flags = ["--model=tiny", "--batch_size=2", "--length=8", "--repeats=1"]
  code = cli.main(["bench", "models", "--nopeers", *flags, f"--out={tmp_path}"])
  assert code == 0, capsys.readouterr().err
  results = json.loads((tmp_path / "models.json").read_text())["results"]
  by_name = {result["name"]: result for result in results}
  assert set(by_name) == {*models.VARIANTS, "scanned, 2 layers"}
  unrolled = by_name["unrolled"]
  assert [peer["name"] for peer in unrolled["peers"]] == [
    "flax.linen, unrolled",
    "flax.linen, scanned",
  ]
  assert all(len(peer["ratios"]) == 3 for peer in unrolled["peers"])


@pytest.mark.parametrize("scanned", [False, True])
def test_the_peer_has_our_shape(scanned):
  """As many parameters, and logits of unit-free scale: near uniform."""
  init, apply = models.flax(SIZES, scanned)
  own, _ = models.ours(SIZES, models.VARIANTS["unrolled"])
  params = init()

  def sizes(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))

  assert sizes(params) == sizes(jax.eval_shape(own))
  logits = apply(params, jnp.arange(8).reshape(1, 8))
  assert logits.shape == (1, 8, SIZES["vocab_size"])
  # Normalised rows times kernels of std 0.02: std 0.02 sqrt(16) = 0.08.
  assert 0.04 < np.std(logits) < 0.16
