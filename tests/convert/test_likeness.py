"""What makes two models the same function of their variables."""

import pytest
from flax import nnx

from normjax import models
from normjax.convert import likeness


def _made(name="llama", **options):
  small = {"model_dim": 16, "num_heads": 4} if name == "llama" else {}
  return nnx.eval_shape(lambda: models.make(name, **{**small, **options}))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"num_heads": 2}, r"layers/0/attention.head_dim is 4 here and 8 there"),
    ({"rope_theta": 5e5}, "rope_theta is 10000.0 here and 500000.0 there (and"),
    ({"norm": "dyt"}, "final_norm.norm is 'rms_norm' here and 'dyt' there"),
    ({"norm": "rms_norm(eps=1e-5)"}, "norm.eps is 1e-06 here and 1e-05 there"),
    ({"activation": "geglu"}, "activation is 'swiglu' here and 'geglu' there"),
    ({"placement": "post"}, "final_norm is not there"),
    ({"mixing": "softmax_sink"}, "attention.method is 'softmax' here"),
    ({"use_bias": True}, "key/bias is there, and not here (and "),
    ({"vocab_size": 99}, "embedding/embedding is (256, 16) here and (99, 16)"),
    ({"num_layers": 1}, "layers/1 is not there"),
    ({"tied_embeddings": True}, "the model.tied_embeddings is False here"),
    ({"residual": "skip_init"}, "attention_gain is there, and not here"),
  ],
)
def test_what_a_result_depends_on_is_said(options, message):
  assert message in likeness.differences(_made(), _made(**options))


@pytest.mark.parametrize(
  "options",
  [
    {},
    {"dropout_rate": 0.1, "drop_path_rate": 0.2},
    {"scan_layers": True, "remat": True},
    {"compute_dtype": "bfloat16"},
    {"init": "placement"},
    {"norm": "rms_norm(impl='reference')"},
  ],
)
def test_what_only_a_run_is_told_by_may_differ(options):
  assert not likeness.differences(_made(), _made(**options))


class _Activation(nnx.Module):
  def __init__(self, function, kernel_init):
    self.function, self.kernel_init = function, kernel_init


def test_functions_are_told_by_their_names():
  """All but those that say how a kernel starts."""
  relu, gelu, silu = (
    _Activation(function, nnx.initializers.normal(std))
    for function, std in ((nnx.relu, 0.1), (nnx.gelu, 0.1), (nnx.silu, 0.2))
  )
  said = likeness.differences(relu, gelu)
  assert said == "the model.function is 'relu' here and 'gelu' there"
  silu.function = nnx.relu
  assert not likeness.differences(relu, silu)


def test_modules_may_be_left_out():
  ours, theirs = _made(), _made(vocab_size=99)
  assert not likeness.differences(ours, theirs, ("embedding", "head"))
  assert likeness.differences(ours, theirs, ("embed", "head"))
