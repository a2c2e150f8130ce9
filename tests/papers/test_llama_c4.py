import math

import pytest

from normjax import errors
from normjax.papers import llama_c4


def test_a_loss_divided_by_one_batch_too_many_is_put_right():
  # As the script computes it, of 95 batches of loss 3.4.
  total, batches = 0.0, 1
  for _ in range(95):
    total, batches = total + 3.4, batches + 1
  printed = math.exp(total / batches)
  assert llama_c4.undivided(printed, 95) == pytest.approx(math.exp(3.4))
  note = llama_c4.divided_note(("Adam", 30.05, 512), ("Pre-LN", 26.73, 64))
  assert "Adam, printed 30.05, is 31.15 with 512 sequences" in note
  assert "Pre-LN, printed 26.73, is 26.85 with 64 sequences" in note
  assert "30.59" not in note


def test_of_code_that_is_not_public_no_fault_is_claimed():
  note = llama_c4.divided_note(("SWAN", 30.05, None))
  assert "printed 30.05, was evaluated by code that is not public" in note
  assert "it would be 30.59 with 256" in note
  assert "31.15 with 512" in note


def test_an_argument_names_a_scale_and_a_size():
  assert llama_c4.size_of("paper") == "60M"
  assert llama_c4.size_of("paper,1B") == "1B"
  assert llama_c4.size_of("small", others=("small",)) == "60M"
  for wrong in ("small", "paper,2B", "paper,", "proxy", "small,1B"):
    with pytest.raises(errors.UserError, match=r"allowed: .*'paper,' with one"):
      llama_c4.size_of(wrong, others=("small",) if "," in wrong else ())


def test_a_row_has_the_rank_and_the_scale_of_its_size():
  assert llama_c4.galore("1B")["optimizer.rank"] == 512
  assert llama_c4.apollo("130M")["optimizer.rank"] == 192
  assert llama_c4.apollo("1B")["optimizer.rank"] == 256
  assert llama_c4.racs("1B")["optimizer.matrix_scale"] == 0.02
  assert llama_c4.shorter("60M", 0.4) == {"train.num_steps": 4000}
