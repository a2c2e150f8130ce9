"""Pre-LN, Pre-RMSNorm and Pre-CRMSNorm as one function: arXiv:2305.14858."""

import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from normjax import convert, errors, models
from normjax.convert import stream as streams
from normjax.nn import neighbours, roles, start
from normjax.nn import variables as nn_variables
from normjax.nn.norm_layer import NormLayer

TOKENS = np.arange(12).reshape(2, 6) % 11
IMAGES = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
DECODER = {"num_layers": 1, "num_heads": 2, "model_dim": 8, "vocab_size": 11}
SIZES = {
  "gpt2": DECODER,
  "llama": DECODER,
  "vit": {**DECODER, "input_shape": (8, 8, 3)},
}
SIZES["vit"] = {k: v for k, v in SIZES["vit"].items() if k != "vocab_size"}
INPUTS = {"vit": IMAGES}
FORMS = {
  "pre_rms_norm": convert.pre_rms_norm,
  "on the fly": functools.partial(convert.pre_rms_norm, centring="on_the_fly"),
  "pre_crms_norm": convert.pre_crms_norm,
}


def make(name, **options):
  """A small model, float32."""
  return models.make(name, **{**SIZES[name], **options}, rngs=nnx.Rngs(3))


def logits(model, inputs):
  """In evaluation."""
  structure, variables = nn_variables.split(model)

  def call(variables, inputs):
    return nn_variables.merge(structure, variables)(inputs, train=False)

  return jax.jit(call)(variables, inputs)


def converted(form, model):
  """The model in that form, compiled as one program."""
  step = start.of_module(FORMS[form])
  return nn_variables.merge(*step.apply(*nn_variables.split(model)))


def in_float64(model):
  """The model with float64 parameters, all drawn anew, that computes so."""
  structure, variables = nn_variables.split(model)
  rng = np.random.default_rng(0)

  def draw(leaf):
    return jnp.asarray(leaf + 0.2 * rng.normal(size=leaf.shape), jnp.float64)

  params = jax.tree.map(draw, variables["params"])
  model = nn_variables.merge(structure, {**variables, "params": params})
  if hasattr(model, "untie_head"):
    model.untie_head()  # The product with a tied one is in float32.
  for _, module in nnx.iter_modules(model):
    for name in ("dtype", "preferred_element_type"):
      if getattr(module, name, None) is not None:
        setattr(module, name, jnp.float64)
  return model


CASES = {
  "gpt2": ("gpt2", {}),
  # GPT-NeoX and Pythia: parallel branches of a norm each, rotation of a part,
  # exact GELU, biases.
  "neox": (
    "llama",
    {
      "norm": "layer_norm(eps=1e-5)",
      "placement": "parallel_two_norms",
      "activation": "gelu_exact",
      "rotary_dim": 2,
      "use_bias": True,
    },
  ),
  "one norm of parallel branches": (
    "llama",
    {"norm": "layer_norm(eps=1e-5)", "placement": "parallel"},
  ),
  "llama": (
    "llama",
    {
      "norm": "layer_norm(use_bias=False, zero_centered=True)",
      "num_kv_heads": 1,
      "output_gate": "headwise",
      "slot_norms": {"query_key": "rms_norm", "inner": "rms_norm"},
      "scaled_embeddings": True,
    },
  ),
  "vit": ("vit", {"pooling": "mean"}),
  "readers' gains": (
    "llama",
    {
      "norm": "layer_norm(scale_form='magnitude_direction')",
      "reader_scales": True,
    },
  ),
  "factors": (
    "vit",
    {
      "placement": "layer_norm_scaling",
      "num_layers": 2,
      "residual": "skip_init",
    },
  ),
}

QUICK = ("gpt2", "neox")


@pytest.mark.parametrize(
  "case",
  [
    pytest.param(case, marks=[] if case in QUICK else [pytest.mark.slow])
    for case in CASES
  ],
)
def test_logits_are_the_same_in_float64(case):
  name, options = CASES[case]
  with jax.enable_x64(True):
    model = in_float64(make(name, **options))
    inputs = INPUTS.get(name, TOKENS)
    before = jax.tree.map(np.array, nn_variables.split(model)[1])
    want = logits(model, inputs)
    assert want.dtype == jnp.float64
    assert np.abs(want).max() > 0.1
    for form in FORMS:
      if form == "on the fly" and options.get("reader_scales"):
        continue  # It folds nothing.
      made = converted(form, model)
      found = logits(made, inputs)
      np.testing.assert_allclose(found, want, rtol=0, atol=1e-12, err_msg=form)
    # The converted model has one feature less, and no norm sees a mean.
    kernel = made.layers[0].attention.query.kernel
    assert kernel.shape[0] == 7
    assert made.final_norm.norm.name == "crms_norm"
    after = nn_variables.split(model)[1]
    jax.tree.map(np.testing.assert_array_equal, before, after)


@pytest.mark.slow
def test_stochastic_depth_is_fine():
  with jax.enable_x64(True):
    model = in_float64(make("vit", num_layers=2, drop_path_rate=0.5))
    options = {"train": True, "key": jax.random.key(1)}
    want = model(IMAGES, **options)
    assert np.abs(want - model(IMAGES, train=False)).max() > 0.1
    for form in FORMS:
      found = converted(form, model)(IMAGES, **options)
      np.testing.assert_allclose(found, want, rtol=0, atol=1e-12)


def test_the_formulas_by_hand():
  # A transcription of the three steps for one writer and one reader.
  model = make("gpt2", tied_embeddings=False)
  rng = np.random.default_rng(1)
  norm = model.layers[0].attention_input_norm
  norm.scale[...], norm.bias[...] = rng.normal(size=(2, 8))
  writer = np.float64(model.layers[0].attention.out.kernel[...])
  reader = np.float64(model.layers[0].attention.value.kernel[...])
  scale, bias = np.float64(norm.scale[...]), np.float64(norm.bias[...])
  writer -= writer.mean(axis=-1, keepdims=True)
  offset = np.einsum("d,dhk->hk", bias, reader)
  reader = scale[:, None, None] * reader
  rms = converted("pre_rms_norm", model)
  crms = converted("pre_crms_norm", model)
  bits = {"rtol": 0, "atol": 8 * 2**-23}
  for made, rows in (
    (rms, reader),
    (crms, reader[:-1] - reader[-1:]),
  ):
    last = rows.shape[0]
    found = made.layers[0].attention.out.kernel[...]
    np.testing.assert_allclose(found, writer[..., :last], **bits)
    value = made.layers[0].attention.value
    np.testing.assert_allclose(value.kernel[...], rows, **bits)
    np.testing.assert_allclose(value.bias[...], offset, **bits)


def test_without_centring_it_is_another_function():
  model = make("gpt2", tied_embeddings=False)
  want = logits(model, TOKENS)
  made = converted("pre_rms_norm", model)
  made.embedding.embedding[...] += 1.0  # A mean in one writer.
  assert np.abs(logits(made, TOKENS) - want).max() > 1e-2


def stepped(model, optimizer, count=1):
  """The model after steps down the loss of the next token."""
  structure, variables = nn_variables.split(model)

  def loss(params):
    module = nn_variables.merge(structure, {**variables, "params": params})
    log_p = jax.nn.log_softmax(module(TOKENS[:, :-1], train=True))
    return -jnp.mean(jnp.take_along_axis(log_p, TOKENS[:, 1:, None], 2))

  @jax.jit
  def step(params, state):
    updates, state = optimizer.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state

  params = variables["params"]
  state = optimizer.init(params)
  for _ in range(count):
    params, state = step(params, state)
  return nn_variables.merge(structure, {**variables, "params": params})


SGD = optax.sgd(0.5)
ADAMW = optax.adamw(0.01, eps=1e-4, weight_decay=0.1)


def untrained(norm):
  with jax.enable_x64(True):
    return in_float64(make("gpt2", norm=norm))


@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_a_step_on_the_fly_is_that_of_pre_ln(optimizer):
  # The parameters are those of Pre-LN, gains and offsets too, and the function
  # of them is the same one: so is a step of any optimizer.
  model = untrained("layer_norm")
  with jax.enable_x64(True):
    made = converted("on the fly", model)
    before = logits(model, TOKENS)
    want, found = (logits(stepped(m, optimizer), TOKENS) for m in (model, made))
    assert np.abs(want - before).max() > 1e-2
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-10)


def test_recentred_steps_are_those_of_pre_ln_with_sgd_alone():
  # The negative result: Adam divides each entry of a gradient by its own size,
  # and centring the step is then another thing than centring the gradient.
  model = untrained("layer_norm(use_scale=False, use_bias=False)")
  with jax.enable_x64(True):
    made = converted("pre_rms_norm", model)
    apart = {}
    for name, optimizer in (("sgd", SGD), ("adamw", ADAMW)):
      found = stepped(made, optimizer)
      convert.recentre(found)
      want = logits(stepped(model, optimizer), TOKENS)
      apart[name] = np.abs(logits(found, TOKENS) - want).max()
    assert apart["sgd"] < 1e-10
    assert apart["adamw"] > 1e-3


def test_a_trained_gpt2_in_float32():
  model = stepped(make("gpt2"), optax.adam(0.01), count=5)
  want = logits(model, TOKENS)
  for form in FORMS:
    made = converted(form, model)
    np.testing.assert_allclose(logits(made, TOKENS), want, atol=1e-5)
    assert not made.tied_embeddings


REFUSED = {
  "rms_norm": (
    "llama",
    {},
    "final_norm: rms_norm, whose output depends on the stream's mean",
  ),
  "post": ("gpt2", {"placement": "post"}, "normalizes the stream: post-norm"),
  "no final": ("vit", {"placement": "deep_norm"}, "post-norm"),
  "output": ("gpt2", {"placement": "sandwich"}, "output_norm normalizes what"),
  "peri": ("gpt2", {"placement": "peri"}, "embedding_norm normalizes the str"),
  "hybrid": ("gpt2", {"placement": "hybrid"}, "input_norm normalizes the str"),
  "layer_scale": (
    "vit",
    {"residual": "layer_scale"},
    "feed_forward_gain: multiplies single features",
  ),
  "fixup": ("vit", {"residual": "fixup"}, "after_bias is added after the sc"),
  "head": (
    "vit",
    {"head": "normalized_softmax"},
    "head is a HeadLayer, no linear layer",
  ),
  "dyt": ("vit", {"norm": "dyt"}, "final_norm: dyt"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_converted_says_why(case):
  name, options, why = REFUSED[case]

  def in_shapes():
    model = make(name, **options)
    for form in ("pre_rms_norm", "pre_crms_norm"):
      with pytest.raises(errors.UserError, match=f"{form}: .*{why}"):
        FORMS[form](model)

  jax.eval_shape(in_shapes)


def test_a_start_step_refuses_dropout():
  structure, variables = nn_variables.split(make("gpt2", dropout_rate=0.1))
  step = convert.start_step("pre_rms_norm")
  with pytest.raises(
    errors.UserError, match=r"dropout_rate=0\.1 of layers/0/attention"
  ):
    step.apply(structure, variables)
  with pytest.raises(errors.UserError, match="centring='never'"):
    convert.start_step("pre_rms_norm(centring='never')")
  outside = make("gpt2", norm="layer_norm(eps_placement='outside')")
  with pytest.raises(errors.UserError, match="eps_placement='outside'"):
    convert.pre_crms_norm(outside)


class Branch(nnx.Module):
  """A user's own: one matrix up, one down."""

  parameter_roles: ClassVar = {
    "up/kernel": roles.kernel("embed", "mlp"),
    "down/kernel": roles.kernel("mlp", "embed"),
    "down/bias": roles.bias("embed"),
  }
  norm_neighbours: ClassVar = {
    "norm": neighbours.Neighbours(readers=("up",), stream=True)
  }

  def __init__(self, rngs):
    self.norm = NormLayer("layer_norm", (6,))
    self.up = nnx.Linear(6, 9, rngs=rngs)
    self.down = nnx.Linear(9, 6, rngs=rngs)

  def __call__(self, x):
    return x + self.down(jnp.tanh(self.up(self.norm(x))))


class Own(nnx.Module):
  """An embedding, a branch, and a head of one's own."""

  parameter_roles: ClassVar = {"out/kernel": roles.kernel("embed", "vocab")}
  norm_neighbours: ClassVar = {
    "last": neighbours.Neighbours(readers=("out",), stream=True)
  }

  def __init__(self, rngs):
    self.table = nnx.Embed(11, 6, rngs=rngs)
    self.branch = Branch(rngs)
    self.last = NormLayer("layer_norm", (6,))
    self.out = nnx.Linear(6, 11, rngs=rngs)

  def __call__(self, tokens):
    return self.out(self.last(self.branch(self.table(tokens))))


class Lying(Own):
  """Its stream is not what it says."""

  def __call__(self, tokens):
    x = self.branch(self.table(tokens)) + 1.0 * jnp.arange(6)
    return self.out(self.last(x))


class Unsaid(Own):
  """Has a parameter that it says nothing of."""

  def __init__(self, rngs):
    super().__init__(rngs)
    self.secret = nnx.Param(jnp.ones(6))


class Tied(Own):
  """Has a tied head, and no way to untie it."""

  tied_embeddings = True


def test_models_of_ones_own_say_what_they_are():
  model = Own(nnx.Rngs(0))
  want = model(TOKENS)
  found = convert.pre_crms_norm(model, TOKENS)(TOKENS)
  np.testing.assert_allclose(found, want, atol=1e-6)
  assert convert.fold(model, TOKENS)[1].folded == ("branch/norm", "last")
  for kind, why in (
    (Lying, "gives other outputs"),
    (Unsaid, "secret: has no role"),
    (Tied, r"no method untie_head\(\)"),
  ):
    with pytest.raises(errors.UserError, match=why):
      convert.pre_rms_norm(kind(nnx.Rngs(0)), TOKENS)
  with pytest.raises(
    errors.UserError, match="it says of no norm that it reads"
  ):
    convert.pre_rms_norm(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))


def test_one_may_follow_the_other():
  model = make("gpt2", norm="layer_norm(zero_centered=True)")
  norm = model.layers[0].attention_input_norm
  norm.bias[...] = jnp.arange(8.0) / 8
  want = logits(model, TOKENS)
  made = converted("on the fly", model)
  folded, account = convert.fold(made)
  assert "final_norm" in account.left
  assert not folded.layers[0].attention_input_norm.norm.options["use_bias"]
  np.testing.assert_allclose(logits(folded, TOKENS), want, atol=1e-6)
  with pytest.raises(errors.UserError, match="final_norm: rms_norm"):
    convert.pre_crms_norm(made)


def test_a_call_that_fails_leaves_the_parameters():
  made = convert.pre_rms_norm(make("gpt2"), centring="on_the_fly")
  before = nn_variables.split(made)[1]["params"]
  with pytest.raises(errors.UserError):
    made(TOKENS + 99)
  jax.jit(lambda tokens: made(tokens, train=False))(TOKENS)
  after = nn_variables.split(made)[1]["params"]
  jax.tree.map(np.testing.assert_array_equal, before, after)
  table = before["embedding"]["embedding"]
  assert np.abs(table.mean(axis=1)).max() > 1e-3
  centred = streams.centred(table)
  np.testing.assert_allclose(centred.mean(axis=1), 0, atol=1e-8)
