"""What the tables of Mix-LN and LayerNorm Scaling share."""

import pytest

from normjax import configure, errors
from normjax.nn import placement
from normjax.papers import deep_llama


def test_shares_are_the_papers_numbers_of_blocks():
  table = configure.load_module("configs/papers/mix_ln_table5.py")
  post = placement.resolve("post").layer(1, 24)
  for share, method in table.METHODS.items():
    placed = placement.resolve(method["model.placement"])
    blocks = [placed.layer(index, 24) for index in range(1, 25)]
    fraction = float(share.removesuffix(" %")) / 100
    assert blocks.count(post) == round(24 * fraction), share
    assert blocks[: blocks.count(post)] == [post] * blocks.count(post)


def test_an_argument_is_a_size():
  sizes = deep_llama.LNS
  assert deep_llama.size_of("paper", sizes) is sizes["130M"]
  assert deep_llama.size_of("paper,1B", sizes) is sizes["1B"]
  config = deep_llama.config(sizes["1B"])
  assert config.schedule.warmup_fraction * config.train.num_steps == 1000
  with pytest.raises(errors.UserError, match="; allowed: proxy; paper; paper,"):
    deep_llama.size_of("paper,71M", sizes, ("proxy",))
