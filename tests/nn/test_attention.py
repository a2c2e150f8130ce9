import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import errors, norms
from normjax.nn import attention, mixing, variables
from tests.nn import references_mixing

WEIGHTLESS = {"name": "rms_norm", "use_scale": False}


def _make(model_dim=16, num_heads=4, seed=0, **options):
  # Kernels well above their usual start, so that every part of y is seen.
  options.setdefault("kernel_init", nnx.initializers.normal(0.5))
  options.setdefault("out_init", nnx.initializers.normal(0.5))
  return attention.Attention(
    model_dim, num_heads, rngs=nnx.Rngs(seed), **options
  )


def _x(seed=0, length=6, model_dim=16):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=(2, length, model_dim)), jnp.float32)


def _paths(module):
  params = variables.split(module)[1]["params"]
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
    for path, leaf in jax.tree.leaves_with_path(params)
  }


def _rms(x, scale=1.0, eps=1e-6):
  return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * scale


def _sigmoid(x):
  return 1 / (1 + np.exp(-x))


def _transcription(module, x, *, gate=None, sub=False, qk=None, value=False):
  """The whole branch in float64, one example at a time; causal softmax."""
  params = jax.tree.map(np.float64, variables.split(module)[1]["params"])
  out = []
  for x_td in np.float64(x):
    q, k, v = (
      np.einsum("td,dhk->thk", x_td, params[name]["kernel"])
      for name in ("query", "key", "value")
    )
    if qk == "head":
      q = _rms(q, params["query_norm"]["scale"])
      k = _rms(k, params["key_norm"]["scale"])
    if qk == "joint":
      q, k = (
        _rms(a.reshape(len(a), -1), params[name]["scale"]).reshape(a.shape)
        for a, name in ((q, "query_norm"), (k, "key_norm"))
      )
    if value:
      v = _rms(v, params["value_norm"]["scale"])
    visible = np.tril(np.ones((len(x_td), len(x_td)), bool))
    o = references_mixing.softmax(
      {},
      references_mixing.rotate(q),
      references_mixing.rotate(k),
      v,
      visible,
      scale=params.get("temperature"),
    )
    if sub:
      merged = _rms(o.reshape(len(o), -1), params["inner_norm"]["scale"])
      o = merged.reshape(o.shape)
    if gate:
      g = _sigmoid(x_td @ params["output_gate"]["kernel"])
      o = o * (g[..., None] if gate == "headwise" else g.reshape(o.shape))
    out.append(np.einsum("thk,hkd->td", o, params["out"]["kernel"]))
  return np.stack(out)


@pytest.mark.parametrize(
  ("options", "told"),
  [
    ({"num_kv_heads": 2}, {}),
    ({"output_gate": "elementwise"}, {"gate": "elementwise"}),
    (
      {"output_gate": "headwise", "inner_norm": "rms_norm"},
      {"gate": "headwise", "sub": True},
    ),
    (
      {"query_key_norm": "rms_norm", "value_norm": "rms_norm"},
      {"qk": "head", "value": True},
    ),
    (
      {
        "query_key_norm": "rms_norm",
        "query_key_norm_axes": "joint",
        "num_kv_heads": 2,
        "learned_temperature": True,
      },
      {"qk": "joint"},
    ),
  ],
  ids=lambda o: "-".join(o),
)
def test_equals_a_float64_transcription(options, told):
  module, x = _make(**options), _x()
  # Parameters off their start: a gain of one could be anywhere.
  rng = np.random.default_rng(1)
  for _, variable in nnx.to_flat_state(nnx.state(module, nnx.Param)):
    variable[...] += jnp.asarray(rng.uniform(0, 0.5, variable.shape))
  got = nnx.jit(lambda module, x: module(x))(module, x)
  want = _transcription(module, x, **told)
  # Sums of 16 products, thrice, and scores up to 16 in an exponential.
  bound = (64 + 16) * 16 * 2**-24 * np.abs(want).max()
  np.testing.assert_allclose(got, want, rtol=0, atol=bound)


def test_after_the_rotation_a_weightless_norm_of_a_head_is_the_same():
  """The rotation keeps lengths; a gain of each feature, it does not."""
  x = _x()
  before = _make(query_key_norm=WEIGHTLESS)(x)
  after = _make(query_key_norm=WEIGHTLESS, query_key_norm_after_rotation=True)
  np.testing.assert_allclose(
    after(x), before, rtol=0, atol=1e-5 * np.abs(before).max()
  )
  gains = []
  for last in (False, True):
    module = _make(
      query_key_norm="rms_norm", query_key_norm_after_rotation=last
    )
    for norm in (module.query_norm, module.key_norm):
      norm.scale[...] = jnp.array([0.5, 1.0, 2.0, 3.0])
    gains.append(np.asarray(module(x)))
  assert np.abs(gains[0] - gains[1]).max() > 1e-2 * np.abs(gains[0]).max()


@pytest.mark.parametrize("axes", ["head", "joint"])
def test_query_key_norm_makes_the_scores_blind_to_the_size_of_kernels(axes):
  x = _x()
  outputs = []
  for size in (1.0, 100.0):
    module = _make(
      query_key_norm={"name": "rms_norm", "eps": 1e-12},
      query_key_norm_axes=axes,
    )
    module.query.kernel[...] *= size
    module.key.kernel[...] *= size
    outputs.append(np.asarray(module(x)))
  np.testing.assert_allclose(
    outputs[1], outputs[0], rtol=0, atol=1e-5 * np.abs(outputs[0]).max()
  )


@pytest.mark.parametrize("gate", ["elementwise", "headwise"])
def test_a_gate_of_zero_kernels_halves_the_output(gate):
  x = _x()
  module = _make(output_gate=gate)
  module.output_gate.kernel[...] *= 0
  plain = _make()
  for name in ("query", "key", "value", "out"):
    getattr(plain, name).kernel[...] = getattr(module, name).kernel[...]
  np.testing.assert_allclose(module(x), 0.5 * plain(x), rtol=1e-5, atol=1e-6)


def test_parameter_names():
  module = _make(
    num_kv_heads=2,
    use_bias=True,
    mixing="softmax_sink",
    query_key_norm="rms_norm",
    query_key_norm_axes="joint",
    value_norm="rms_norm",
    inner_norm="rms_norm",
    learned_temperature=True,
    output_gate="elementwise",
  )
  assert _paths(module) == {
    "query/kernel": (16, 4, 4),
    "query/bias": (4, 4),
    "key/kernel": (16, 2, 4),
    "key/bias": (2, 4),
    "value/kernel": (16, 2, 4),
    "value/bias": (2, 4),
    "out/kernel": (4, 4, 16),
    "out/bias": (16,),
    "query_norm/scale": (16,),
    "key_norm/scale": (8,),
    "value_norm/scale": (4,),
    "inner_norm/scale": (16,),
    "output_gate/kernel": (16, 16),
    "output_gate/bias": (16,),
    "temperature": (4,),
    "mixing/sink": (4,),
  }
  assert set(_paths(_make())) == {
    f"{name}/kernel" for name in ("query", "key", "value", "out")
  }


def test_soft_has_one_projection_for_queries_and_keys():
  module = _make(
    mixing="soft", causal=False, rope_theta=None, query_key_norm="rms_norm"
  )
  assert not any(path.startswith("key") for path in _paths(module))
  assert _paths(module)["mixing/landmark/kernel"] == (8, 4)
  assert module(_x()).shape == (2, 6, 16)


@pytest.mark.parametrize("name", mixing.names())
def test_training_in_bfloat16_reaches_every_parameter(name):
  traits = mixing.make(name).traits
  module = _make(
    mixing=name,
    causal=traits.causal,
    rope_theta=None if traits.rotation == "none" else 10_000.0,
    dtype=jnp.bfloat16,
  )
  structure, values = variables.split(module)

  @jax.jit
  def gradient(params, x):
    def loss(params):
      y = variables.merge(structure, {**values, "params": params})(x)
      assert y.dtype == jnp.bfloat16
      return jnp.mean(jnp.square(y.astype(jnp.float32)))

    return jax.grad(loss)(params)

  grads = gradient(values["params"], _x())
  for leaf in jax.tree.leaves(grads):
    assert leaf.dtype == jnp.float32
    assert np.isfinite(leaf).all()
    assert np.abs(leaf).max() > 0


def test_masks_hide_keys_and_reach_the_statistics():
  x = _x()
  mask = jnp.arange(6) < jnp.array([[6], [4]])
  options = {
    "causal": False,
    "query_key_norm": "batch_norm",
    "inner_norm": "batch_norm",
  }
  first, second = _make(**options), _make(**options)
  other = jnp.where(mask[..., None], x, 5.0)
  y, z = first(x, mask_bt=mask), second(other, mask_bt=mask)
  np.testing.assert_array_equal(np.asarray(y)[mask], np.asarray(z)[mask])
  for norm in ("query_norm", "inner_norm"):
    statistics = getattr(first, norm).mean[...]
    np.testing.assert_array_equal(statistics, getattr(second, norm).mean[...])
    assert np.abs(statistics).max() > 0
  before = first.query_norm.mean[...]
  first(x, train=False)
  np.testing.assert_array_equal(first.query_norm.mean[...], before)


def test_first_token_mass_is_sown_by_head_and_costs_nothing_if_not_captured():
  module, x = _make(), _x()
  _, sown = nnx.capture(lambda module: module(x), nnx.Intermediate)(module)
  mass = nnx.to_pure_dict(sown)["first_token_mass"][0]
  assert mass.shape == (4,)
  # Of six positions the first sees itself alone.
  assert (mass > 1 / 6).all()
  assert (mass < 1).all()
  graphdef, state = nnx.split(module)

  def flops(function):
    return jax.jit(function).lower(state, x).compile().cost_analysis()["flops"]

  def without(state, x):
    module = nnx.merge(graphdef, state)
    module.sow = lambda *_, **__: None
    return module(x)

  assert flops(lambda s, x: nnx.merge(graphdef, s)(x)) == flops(without)


def test_kernels_of_a_seed_do_not_depend_on_the_method():
  kernels = [
    np.asarray(_make(mixing=name).out.kernel[...])
    for name in ("softmax", "softmax_off_by_one", "nalaformer")
  ]
  np.testing.assert_array_equal(kernels[0], kernels[1])
  np.testing.assert_array_equal(kernels[0], kernels[2])


def test_initializers_go_where_they_are_named():
  constant = nnx.initializers.constant
  module = _make(
    kernel_init=constant(1.0), value_init=constant(2.0), out_init=constant(3.0)
  )
  for name, value in (("query", 1), ("key", 1), ("value", 2), ("out", 3)):
    np.testing.assert_array_equal(getattr(module, name).kernel[...], value)
  same = _make(kernel_init=constant(1.0))
  np.testing.assert_array_equal(same.value.kernel[...], 1)


def test_the_temperature_starts_where_it_is_told():
  assert _make(learned_temperature=True).temperature[0] == 0.5
  module = _make(learned_temperature=True, logit_scale=10.0)
  np.testing.assert_array_equal(module.temperature[...], 10.0)
  fixed = _make(logit_scale=10.0)(_x())
  np.testing.assert_array_equal(module(_x()), fixed)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"model_dim": 12}, "a divisor of half of model_dim=12"),
    (
      {"model_dim": 14, "rope_theta": None},
      "num_heads=4; allowed: a divisor of model_dim=14",
    ),
    ({"num_kv_heads": 3}, "num_kv_heads=3; allowed: a divisor of num_heads=4"),
    ({"rope_theta": -1.0}, "rope_theta=-1.0; allowed: a finite number > 0"),
    ({"head_dim": 0}, "head_dim=0; allowed"),
    ({"head_dim": 5}, "head_dim=5; allowed: an even number, since rope_theta"),
    ({"rotary_dim": 3}, "rotary_dim=3; allowed: an even number up to the 4"),
    ({"rotary_dim": 6}, "rotary_dim=6; allowed: an even number up to the 4"),
    (
      {"rotary_dim": 2, "rope_theta": None},
      "rotary_dim=2 is about a rotation.*leave rotary_dim out",
    ),
    (
      {"rope_scaling": "linear", "rope_theta": None},
      "rope_scaling='linear' is about a rotation",
    ),
    ({"rope_scaling": "yarn"}, "unknown rope_scaling 'yarn'.*llama3"),
    (
      {"rotary_dim": 2, "mixing": "nalaformer"},
      "'nalaformer' rotates features of its own.*must be None",
    ),
    (
      {"use_bias": "query"},
      "use_bias='query'; allowed: .*'query_key_value'",
    ),
    ({"mixing": "sofmax"}, "Did you mean 'softmax'"),
    ({"mixing": "soft"}, "'soft' has no causal form.*causal=False"),
    (
      {"mixing": "soft", "causal": False},
      "takes no rotation; rope_theta=10000.0 must be None",
    ),
    (
      {
        "mixing": "soft",
        "causal": False,
        "rope_theta": None,
        "num_kv_heads": 2,
      },
      "no grouped queries: num_kv_heads=2",
    ),
    (
      {
        "mixing": "nalaformer",
        "query_key_norm": "rms_norm",
        "query_key_norm_after_rotation": True,
      },
      "query_key_norm_after_rotation must be False",
    ),
    (
      {"mixing": "nalaformer", "logit_cap": 30.0},
      "no scores for logit_cap=30.0",
    ),
    (
      {"mixing": "nalaformer", "learned_temperature": True},
      "no scores for learned_temperature=True",
    ),
    ({"logit_cap": 0.0}, "logit_cap=0.0; allowed: a finite number > 0"),
    ({"logit_scale": -1.0}, "logit_scale=-1.0; allowed: a finite number > 0"),
    ({"output_gate": "head"}, "output_gate='head'; allowed: .* Did you mean"),
    ({"query_key_norm_axes": "heads"}, "allowed: 'head', 'joint'"),
    ({"query_key_norm_axes": "joint"}, "query_key_norm=None is none"),
    ({"inner_norm": "rmsnorm"}, "Did you mean 'rms_norm'"),
  ],
)
def test_bad_options_are_named(options, message):
  with pytest.raises(errors.UserError, match=message):
    _make(**options)


def test_a_norm_of_images_is_refused():
  norm = norms.make("rms_norm")
  of_images = type(norm)(
    **{
      **vars(norm),
      "traits": norms.NormTraits("per_example", spatial_only=True),
    }
  )
  with pytest.raises(errors.UserError, match="is for images"):
    _make(value_norm=of_images)


def test_a_mask_of_the_wrong_shape_is_named():
  with pytest.raises(errors.UserError, match=r"shape \(2, 6\); got \(6,\)"):
    _make()(_x(), mask_bt=jnp.ones(6))


def test_dropout_keeps_the_mean_and_zeroes_the_rate():
  from normjax.nn.dropout import dropout

  x = jnp.ones(10_000)
  y = np.asarray(dropout(x, 0.25, jax.random.key(0)))
  # Five standard deviations of a mean of 10,000 coin tosses.
  assert abs((y == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 10_000)
  np.testing.assert_allclose(y[y > 0], 1 / 0.75, rtol=1e-6)
  assert dropout(x, 0.0, jax.random.key(0)) is x
  assert dropout(x, 0.5, None) is x


def test_heads_have_the_size_that_is_told():
  """Qwen3: k is not d / h."""
  paths = _paths(_make(head_dim=6, num_kv_heads=2, output_gate="elementwise"))
  assert paths["query/kernel"] == (16, 4, 6)
  assert paths["key/kernel"] == paths["value/kernel"] == (16, 2, 6)
  assert paths["out/kernel"] == (4, 6, 16)
  assert paths["output_gate/kernel"] == (16, 24)
  module = _make(head_dim=6)
  want = _transcription(module, _x())
  # As for the whole branch above; sums of 16 and 24 products.
  np.testing.assert_allclose(module(_x()), want, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
  ("use_bias", "biased"),
  [
    (False, set()),
    ("query_key_value", {"query", "key", "value"}),
    (True, {"query", "key", "value", "out", "output_gate"}),
  ],
)
def test_which_layers_have_biases(use_bias, biased):
  paths = _paths(_make(use_bias=use_bias, output_gate="headwise"))
  assert {p.removesuffix("/bias") for p in paths if "bias" in p} == biased


def test_some_features_may_rotate():
  """Of a query and a key those behind rotary_dim stay: GPT-NeoX, Pythia."""
  x = _x()
  plain, part = _make(rope_theta=None), _make(rotary_dim=2)
  table = part.rotary_table(jnp.arange(6))
  assert table.cosine.shape == (6, 1)
  moved = attention.rotate(plain.query(x), table)
  np.testing.assert_array_equal(moved[..., 2:], plain.query(x)[..., 2:])
  assert np.abs(moved - plain.query(x))[:, 1:, :, :2].min() > 0
  # All of them: the same bits as without the option.
  np.testing.assert_array_equal(_make(rotary_dim=4)(x), _make()(x))
