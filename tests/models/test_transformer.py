import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import errors, models
from normjax.nn import model_roles, roles
from normjax.nn import placement as placements
from normjax.nn import variables as nn_variables
from normjax.record import probes
from normjax.train.sharding import layout_rules
from tests.contracts import model_contract

TINY = model_contract.SIZES["llama"]


def _tokens(seed=0, length=6):
  generator = np.random.default_rng(seed)
  return jnp.asarray(generator.integers(0, 23, (3, length)), jnp.int32)


@pytest.mark.parametrize("placement", placements.TABLE.names())
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_future_does_not_show(name, placement):
  """Changing token t leaves the logits before t as they were."""
  norm = {"norm": "l2_norm"} if placement == "normalized_stream" else {}
  model = models.make(name, **TINY, placement=placement, **norm)
  tokens = _tokens()
  changed = tokens.at[:, 3].set((tokens[:, 3] + 1) % 23)
  before, after = model(tokens), model(changed)
  np.testing.assert_array_equal(before[:, :3], after[:, :3])
  assert np.any(before[:, 3] != after[:, 3])


def test_tied_logits_are_not_rounded_to_the_compute_dtype():
  model = models.make(
    "llama", **TINY, tied_embeddings=True, compute_dtype="bfloat16"
  )
  logits = model(_tokens())
  assert logits.dtype == jnp.float32
  assert np.any(logits != logits.astype(jnp.bfloat16).astype(jnp.float32))


def test_dropout_follows_its_key_and_is_off_in_evaluation():
  model = models.make("llama", **TINY, dropout_rate=0.5)
  keys = jax.random.split(jax.random.key(0))
  once, again = (model(_tokens(), key=keys[0]) for _ in range(2))
  np.testing.assert_array_equal(once, again)
  assert np.any(once != model(_tokens(), key=keys[1]))
  np.testing.assert_array_equal(
    model(_tokens(), train=False, key=keys[0]), model(_tokens(), train=False)
  )


def test_parameter_count_is_the_formula():
  d, v, layers, f = 64, 256, 2, 176
  params = nn_variables.split(models.make("llama"))[1]["params"]
  # Embedding and head; four d x d and three d x f kernels and two gains a
  # layer; the final gain.
  want = 2 * v * d + layers * (4 * d * d + 3 * d * f + 2 * d) + d
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == want


def test_grouped_queries_and_tied_embeddings_shrink_the_tree():
  params = nn_variables.split(
    models.make("llama", **TINY, num_kv_heads=1, tied_embeddings=True)
  )[1]["params"]
  attention = params["layers"]["0"]["attention"]
  assert attention["query"]["kernel"].shape == (16, 2, 8)
  assert attention["key"]["kernel"].shape == (16, 1, 8)
  assert attention["out"]["kernel"].shape == (2, 8, 16)
  assert "head" not in params


def test_embeddings_start_as_wide_as_asked():
  plain, wide = (
    models.make("llama", **TINY, embedding_std=std, rngs=nnx.Rngs(0))
    for std in (0.02, 0.2)
  )
  ratio = wide.embedding.embedding[...] / plain.embedding.embedding[...]
  np.testing.assert_allclose(ratio, 10.0, rtol=1e-5)
  np.testing.assert_array_equal(wide.head.kernel[...], plain.head.kernel[...])
  with pytest.raises(errors.UserError, match="embedding_std=0.0; allowed"):
    models.make("llama", **TINY, embedding_std=0.0)


def test_scaled_embeddings_have_one_learned_scalar():
  """Learned, and sqrt(d) at first: it lifts the stream to unit size."""
  model = models.make("llama", **TINY, scaled_embeddings=True, norm="identity")
  params = nn_variables.split(model)[1]["params"]
  np.testing.assert_allclose(params["embedding_scale"], 4.0)
  assert (
    "embedding_scale"
    not in nn_variables.split(models.make("llama", **TINY))[1]["params"]
  )


def test_initialization_scales_what_writes_to_the_stream():
  params = nn_variables.split(
    models.make("llama", num_layers=8, model_dim=128)
  )[1]["params"]
  block = params["layers"]["3"]
  for kernel, want in (
    (block["attention"]["query"]["kernel"], 0.02),
    (block["attention"]["out"]["kernel"], 0.02 / 4),
    (block["feed_forward"]["down"]["kernel"], 0.02 / 4),
    (params["embedding"]["embedding"], 0.02),
  ):
    # The deviation of n normal draws is itself off by 1 / sqrt(2 n); five of
    # those are never seen.
    tolerance = 5 / np.sqrt(2 * kernel.size)
    np.testing.assert_allclose(np.std(kernel), want, rtol=tolerance)


def test_initialization_follows_the_key_alone():
  def make(seed):
    return nn_variables.split(
      models.make("llama", **TINY, rngs=nnx.Rngs(params=seed))
    )[1]["params"]

  jax.tree.map(np.testing.assert_array_equal, make(0), make(0))
  assert np.any(make(0)["head"]["kernel"] != make(1)["head"]["kernel"])


def test_a_first_guess_is_nearly_uniform():
  logits = models.make("llama")(jnp.zeros((2, 8), jnp.int32))
  entropy = -jnp.sum(jax.nn.softmax(logits) * jax.nn.log_softmax(logits), -1)
  assert np.all(entropy > 0.99 * np.log(256))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"model_dim": 18, "num_heads": 4}, "a divisor of half of model_dim=18"),
    ({"num_heads": 4, "num_kv_heads": 3}, "num_kv_heads=3; allowed: a divisor"),
    ({"num_heads": 0}, "num_heads=0; allowed: an int >= 1"),
    ({"model_dim": -64}, "model_dim=-64; allowed: an int >= 1"),
    ({"hidden_dim": 0}, "hidden_dim=0; allowed: an int >= 1"),
    ({"num_layers": 2.5}, "num_layers=2.5; allowed: an int >= 1"),
    ({"rope_theta": 0.0}, "rope_theta=0.0; allowed: a finite number > 0"),
    ({"compute_dtype": "int32"}, "compute_dtype='int32'; allowed"),
    ({"placement": {"name": "pre"}}, "unknown placement {'name': 'pre'}"),
    ({"num_layers": 0}, "num_layers=0; allowed: an int >= 1"),
    ({"dropout_rate": 1.0}, r"dropout_rate=1.0; allowed: .* >= 0 and < 1"),
    ({"placement": "pree"}, "unknown placement 'pree'. Did you mean 'pre'"),
    ({"norm": "rmsnorm"}, "unknown norm 'rmsnorm'. Did you mean 'rms_norm'"),
    ({"heads": 3}, "model 'llama' has no option 'heads'"),
  ],
)
def test_bad_options_are_named(options, message):
  with pytest.raises(errors.UserError, match=message):
    models.make("llama", **options)


@pytest.mark.parametrize(
  ("options", "biased"),
  [
    ({}, set()),
    (
      {"attention_bias": "query_key_value"},
      {"attention/query", "attention/key", "attention/value"},
    ),
    (
      {"use_bias": True, "attention_bias": "none"},
      {"feed_forward/gate", "feed_forward/up", "feed_forward/down"},
    ),
    (
      {"attention_bias": "all"},
      {f"attention/{name}" for name in ("query", "key", "value", "out")},
    ),
  ],
  ids=["none", "query_key_value", "feed_forward", "all"],
)
def test_attention_has_the_biases_that_are_asked_for(options, biased):
  """Qwen2: those of queries, keys and values alone."""
  model = nnx.eval_shape(lambda: models.make("llama", **TINY, **options))
  params = nn_variables.split(model.layers[0])[1]["params"]
  found = {
    jax.tree_util.keystr(path[:-1], simple=True, separator="/")
    for path, _ in jax.tree.leaves_with_path(params)
    if path[-1].key == "bias"
  }
  assert found == biased


def test_parallel_branches_may_have_a_norm_each():
  """GPT-NeoX: x + F(N x) + G(M x); with N = M what `parallel` is."""
  two = models.make("llama", **TINY, placement="parallel_two_norms")
  one = models.make("llama", **TINY, placement="parallel")
  np.testing.assert_array_equal(two(_tokens()), one(_tokens()))
  two.layers[0].feed_forward_input_norm.scale[...] = jnp.full(16, 2.0)
  assert np.any(two(_tokens()) != one(_tokens()))


def test_float64_is_asked_for_and_needs_jax_to_have_it():
  with pytest.raises(errors.UserError, match="JAX_ENABLE_X64=1"):
    models.make("llama", **TINY, compute_dtype="float64")
  with jax.enable_x64(True):
    for tied in (False, True):

      def logits(tied=tied):
        options = {"tied_embeddings": tied, "compute_dtype": "float64"}
        return models.make("llama", **TINY, **options)(_tokens())

      assert jax.eval_shape(logits).dtype == jnp.float64


def test_parameters_of_released_decoders_are_known_and_split_by_head():
  """Qwen3's heads are not d / h; NeoX has a norm and biases more."""
  options = {"head_dim": 6, "num_heads": 4, "num_kv_heads": 2, "model_dim": 16}
  model = nnx.eval_shape(
    lambda: models.make(
      "llama",
      **{**TINY, **options},
      attention_bias="query_key_value",
      output_gate="elementwise",
      placement="parallel_two_norms",
      slot_norms={"query_key": "rms_norm"},
    )
  )
  known = model_roles.of(model)
  shapes = nn_variables.split(model)[1]["params"]
  split = layout_rules.Splitting({"tensor": 2}, min_size=1)
  specs = {}
  for path, leaf in probes.named_leaves(shapes):
    role = known[path]
    assert role.kind is not roles.Kind.OTHER, path
    specs[path.removeprefix("layers/0/attention/")] = (
      *split(path, role, leaf.shape),
    )
  heads = (None, "tensor", None)
  assert specs["query/kernel"] == specs["key/kernel"] == heads
  assert specs["out/kernel"] == ("tensor", None, None)
  assert specs["output_gate/kernel"] == (None, "tensor")
  assert specs["query/bias"] == specs["query_norm/scale"] == ()
