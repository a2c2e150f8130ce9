"""The methods: purity, limits, models of all kinds, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from normjax import adapt, errors, models
from normjax.adapt import affine, core, osuda, sites
from normjax.nn.conv_norm import ConvNorm
from tests.support import normal

CLASSES = 5
SHAPE = (4, 4, 3)
X = normal(3, 6, *SHAPE, seed=1)


class Images(nnx.Module):
  """A convolution with its norm, and a head."""

  def __init__(self, norm="batch_norm", mode="train"):
    rngs = nnx.Rngs(0)
    made = {"activation": "relu", "mode": mode, "rngs": rngs}
    self.layers = nnx.List([ConvNorm(3, 4, norm=norm, **made)])
    self.head = nnx.Linear(4, CLASSES, rngs=rngs)

  def __call__(self, x, *, train=None):
    x = self.layers[0](x, train=train)
    return self.head(jnp.mean(x, axis=(1, 2)))


class Foreign(nnx.Module):
  """Of Flax alone; its call says nothing of training."""

  def __init__(self):
    rngs = nnx.Rngs(0)
    self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
    self.bn = nnx.BatchNorm(4, momentum=0.8, rngs=rngs)
    self.drop = nnx.Dropout(0.5, rngs=rngs)
    self.head = nnx.Linear(4, CLASSES, rngs=rngs)

  def __call__(self, x):
    x = self.drop(nnx.relu(self.bn(self.conv(x))))
    return self.head(jnp.mean(x, axis=(1, 2)))


# What a method needs beside its defaults on a net of few classes.
NEEDS = {
  "note": {"input_shape": SHAPE, "capacity": 6, "update_every": 6},
  "eata": {"entropy_margin": 2.0, "similarity_margin": 2.0},
  "sar": {"entropy_margin": 2.0},
}
OF_IABN = ("iabn", "note")


def model_for(name):
  return Images("iabn" if name in OF_IABN else "batch_norm")


def make(name, model=None, **options):
  model = model_for(name) if model is None else model
  return adapt.make(name, model, **{**NEEDS.get(name, {}), **options})


def stepped(name, model=None, x=X[0], **options):
  adapter = make(name, model, **options)
  return jax.jit(adapter.step)(adapter.init(), x)


def close(a, b, **tolerance):
  # Float32 through two layers: sums of a hundred products.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, **{"rtol": 2e-5, "atol": 2e-6, **tolerance}
    ),
    a,
    b,
  )


def test_the_tables_name_the_same():
  assert set(adapt.SEEN) == set(adapt.names()) == set(adapt.TABLE)


@pytest.mark.parametrize("name", adapt.names())
def test_a_stream_is_one_program(name):
  """As shapes: the state that a step gives is of the kind that it takes."""
  adapter = make(name)
  assert adapter.seen == adapt.SEEN[name]
  state = adapter.init(jax.random.key(0))
  after, logits = jax.eval_shape(
    lambda state, x: jax.lax.scan(
      lambda state, x: adapter.step(state, x)[::-1], state, x
    ),
    state,
    X,
  )
  assert logits.shape == (3, 6, CLASSES)
  assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, after)


@pytest.mark.parametrize("name", ["unmix_tns", "tent"])
def test_a_step_changes_neither_model_nor_state(name):
  model = Images()
  before = jax.tree.map(np.array, nnx.state(model))
  adapter = make(name, model)
  state = adapter.init(jax.random.key(0))
  kept = jax.tree.map(np.array, state)
  _, after = jax.jit(adapter.step)(state, X[0])
  jax.tree.map(np.testing.assert_array_equal, before, nnx.state(model))
  jax.tree.map(np.testing.assert_array_equal, kept, state)
  moved = jax.tree.leaves(
    jax.tree.map(lambda a, b: np.any(a != b), kept.variables, after.variables)
  )
  assert any(moved)


def test_numbers_are_data_of_one_program():
  """Another learning rate needs no other compilation."""
  slow, fast = (make("tent", learning_rate=rate) for rate in (1e-3, 0.1))
  step = jax.jit(slow.step)
  expected = jax.jit(fast.step)(fast.init(), X[0])
  step(slow.init(), X[0])
  found = step(fast.init(), X[0])
  close(found, expected)
  assert step._cache_size() == 1


# ----- Where methods meet -----


def test_limits():
  model = Images()
  model(X[1], train=True)  # Statistics that are not those of the start.
  source = stepped("source", model)[0]
  batch = stepped("batch", model)[0]
  assert not np.allclose(source, batch, atol=1e-3)
  for name, options, expected in (
    ("alpha_bn", {"test_weight": 0.0}, source),
    ("ema", {"momentum": 1.0}, source),
    ("ema", {"momentum": 1.0, "passes": 1}, source),
    ("tent", {}, batch),
    ("sar", {"freeze": ""}, batch),
    ("eata", {}, batch),
    ("osuda", {"source_weight": 1.0, "decay": 0.0}, source),
    ("core", {"test_weight": 0.0}, source),
    ("adabn", {}, source),
  ):
    close(stepped(name, model, **options)[0], expected)
  whole = stepped("alpha_bn", model, test_weight=1.0)[0]
  close(stepped("osuda", model, source_weight=0.0)[0], whole)
  close(stepped("ema", model, momentum=0.0)[0], whole)
  close(stepped("ema", model, momentum=0.0, passes=1)[0], whole)


def test_ema_moves_the_statistics_as_training_does():
  trained = Images()
  trained(X[0], train=True)
  expected = sites.by_site(make("source", trained).init().variables["stats"])
  for passes in (1, 2):
    _, state = stepped("ema", passes=passes)
    close(sites.by_site(state.variables["stats"]), expected)


def test_unmix_tns_normalizes_each_example_by_itself():
  """Order and company of a batch do not matter to its predictions."""
  adapter = make("unmix_tns", components=4)
  state = adapter.init(jax.random.key(1))
  logits, _ = adapter.step(state, X[0])
  close(adapter.step(state, X[0][::-1])[0][::-1], logits)
  close(adapter.step(state, X[0][2:3])[0], logits[2:3])


def test_unmix_tns_moves_by_its_rate():
  """The first norm's components by float64 NumPy; a rate of 0 keeps them."""
  model = Images()
  adapter = make("unmix_tns", model, components=4, momentum=0.5)
  state = adapter.init(jax.random.key(1))
  stats = state.variables["stats"]["layers"]["0"]["norm"]["norm"]
  m, v = (np.float64(stats[name]) for name in ("means", "variances"))
  x = np.float64(model.layers[0].conv(X[0]))
  mu, s = x.mean((1, 2)), x.var((1, 2))
  cosine = mu @ m.T / np.linalg.norm(mu, axis=1)[:, None]
  cosine /= np.linalg.norm(m, axis=1)
  p = np.exp(cosine / 0.07)
  p /= p.sum(1, keepdims=True)
  for k in range(4):
    m[k] += 0.5 * np.mean(p[:, k, None] * (mu - m[k]), axis=0)
    v[k] += 0.5 * np.mean(p[:, k, None] * (s - v[k]), axis=0)
  _, after = adapter.step(state, X[0])
  found = after.variables["stats"]["layers"]["0"]["norm"]["norm"]
  close([found["means"], found["variances"]], [m, v])
  still = make("unmix_tns", model, components=4, momentum=0.0)
  _, after = still.step(still.init(), X[0])
  close(after.variables, still.init().variables, rtol=0, atol=0)


def test_unmix_tns_starts_as_a_mixture_of_the_source():
  """Mean over draws; of one component the source itself."""
  model = Images()
  one = make("unmix_tns", model, components=1).init().variables["stats"]
  held = one["layers"]["0"]["norm"]["norm"]
  close(held["means"][0], held["mean"], rtol=0, atol=0)
  close(held["variances"][0], held["var"], rtol=0, atol=0)
  many = make("unmix_tns", model, components=4096, alpha=0.25)
  held = many.init().variables["stats"]["layers"]["0"]["norm"]["norm"]
  spread = np.var(held["means"], axis=0) + np.mean(held["variances"], axis=0)
  # Four standard errors of a variance of 4096 draws, of a quarter of it.
  close(spread, held["var"], rtol=np.sqrt(2 / 4096))


def test_adabn_takes_the_statistics_of_the_whole_stream():
  model = Images()
  adapter = make("adabn", model)
  stream = [X[0], X[1][:2], X[2][:5]]
  state = adapter.fit(stream)
  every = np.float64(model.layers[0].conv(jnp.concatenate(stream)))
  stats = state.variables["stats"]["layers"]["0"]["norm"]["norm"]
  close(stats["mean"], every.mean((0, 1, 2)))
  close(stats["var"], every.var((0, 1, 2)))
  logits, after = adapter.step(state, X[0])
  assert after is state
  close(adapter.model(state)(X[0]), logits)


def test_the_loss_of_core_is_an_entropy():
  logits = normal(7, CLASSES)
  p = np.float64(jax.nn.softmax(logits))
  expected = np.mean(1 - np.sum(p**2, axis=1))
  close(core.correlation(logits), expected)
  m = p.T @ p
  m /= m.sum(0)
  expected = (m.sum() - np.trace(m)) / CLASSES
  close(core.correlation(logits, normalize=True), expected)


def test_osuda_holds_what_transfers():
  source = {"mean": np.array([0.0, 3.0]), "var": np.array([1.0, 4.0])}
  target = {"mean": np.array([0.0, 0.0]), "var": np.array([9.0, 4.0])}
  found = osuda.transferability(source, target, 0.0)
  close(found, [1.0, 1 / 2.5])


def test_osuda_holds_scale_and_bias_near_the_source():
  """With a heavy weight, what has moved comes back by sign descent."""
  adapter = make("osuda", learning_rate=0.01, optimizer="adam", consistency=1e6)
  state = adapter.init()
  params = state.variables["params"]
  away = jax.tree.map(lambda a: a + 0.5, params["layers"])
  params = {**params, "layers": away}
  state = state._replace(variables={**state.variables, "params": params})
  _, after = jax.jit(adapter.step)(state, X[0])
  norm = after.variables["params"]["layers"]["0"]["norm"]["norm"]
  close(norm, {"scale": np.full(4, 1.49), "bias": np.full(4, 0.49)}, rtol=1e-4)


def test_osuda_takes_a_decay_of_ones_own():
  numbers = stepped("osuda", source_weight=0.7, decay=0.3)
  own = stepped("osuda", source_weight=0.7, decay=lambda k: jnp.exp(-0.3 * k))
  close(own[0], numbers[0])


def test_note_goes_through_a_large_batch_in_parts():
  """What comes after an update is predicted by the moved model."""
  x = X[:2].reshape(12, *SHAPE)
  adapter = make("note", learning_rate=0.1)
  step = jax.jit(adapter.step)
  together, state = step(adapter.init(), x)
  first, moved = step(adapter.init(), x[:6])
  second, apart = step(moved, x[6:])
  close(together, jnp.concatenate([first, second]))
  close(state.variables, apart.variables)
  assert not np.allclose(
    make("iabn").step(make("iabn").init(), x)[0][6:], second
  )


def test_eata_pulls_by_importance():
  """Where nothing has moved yet, the term is 0; afterwards it pulls back."""
  free = make("eata", learning_rate=0.1)
  held = make("eata", learning_rate=0.1, fisher_data=[X[2]], fisher_weight=1e4)
  states = {}
  for name, adapter in (("free", free), ("held", held)):
    step, state = jax.jit(adapter.step), adapter.init()
    for x in X[:2]:
      _, state = step(state, x)
      states.setdefault(name, []).append(state.variables["params"])
  assert not free.init().own.fisher
  close(states["free"][0], states["held"][0])
  differs = jax.tree.map(
    lambda a, b: not np.allclose(a, b, atol=1e-5),
    states["free"][1],
    states["held"][1],
  )
  assert any(jax.tree.leaves(differs))


def _precisions(jaxpr):
  for equation in jaxpr.eqns:
    if equation.primitive.name == "dot_general":
      yield equation.params["precision"]
    for inner in jaxprs_in_params(equation.params):
      yield from _precisions(inner)


@pytest.mark.parametrize("name", ["core", "eata", "lame", "unmix_tns"])
def test_no_device_rounds_factors(name):
  """TensorFloat-32 moves cosines over thresholds, and variances more."""

  class Features(nnx.Module):
    """Without a product of its own."""

    def __init__(self):
      self.norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
      self.head = nnx.Linear(3, CLASSES, rngs=nnx.Rngs(0), precision="highest")

    def __call__(self, x):
      return self.head(jnp.mean(self.norm(x), axis=(1, 2)))

  adapter = make(name, Features())
  state = jax.eval_shape(adapter.init, jax.random.key(0))
  found = list(_precisions(jax.make_jaxpr(adapter.step)(state, X[0]).jaxpr))
  assert len(found) > 1
  highest = jax.lax.Precision.HIGHEST
  assert all(each == (highest, highest) for each in found)


# ----- Models of all kinds -----


def test_a_model_of_flax_alone_adapts():
  model = Foreign()
  model.train()
  model.drop.deterministic = True
  expected = nnx.clone(model)(X[0])
  close(stepped("batch", model)[0], expected)
  model.eval()
  source = model(X[0])
  close(stepped("source", model)[0], source)
  close(stepped("alpha_bn", model, test_weight=0.0)[0], source)
  _, state = stepped("ema", model)
  moved = nnx.clone(model)
  moved.train()
  moved(X[0])
  found = state.variables["stats"]["bn"]
  close(found["mean"], moved.bn.mean[...])
  close(found["var"], moved.bn.var[...])
  assert set(affine.choose("tent", sites.pin("tent", model))) == {
    "bn/scale",
    "bn/bias",
  }


@pytest.mark.parametrize("mode", ["eval", "tune"])
def test_norms_that_training_would_leave_adapt(mode):
  expected = stepped("batch")[0]
  close(stepped("batch", Images(mode=mode))[0], expected)


@pytest.mark.parametrize("norm", ["group_norm(num_groups=2)", "layer_norm"])
@pytest.mark.parametrize("name", ["tent", "eata", "sar"])
def test_norms_of_examples_adapt(name, norm):
  model = Images(norm)
  source = stepped("source", model)[0]
  adapter = make(name, model)
  logits, state = jax.jit(adapter.step)(adapter.init(), X[0][:1])
  close(logits, source[:1])
  before = adapter.init().variables["params"]["layers"]
  after = state.variables["params"]["layers"]
  moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, after)
  assert moved["0"]["norm"]["norm"] == {"scale": True, "bias": True}
  assert not any(jax.tree.leaves(moved["0"]["conv"]))


def test_sar_leaves_the_last_stage():
  def chosen(name, **options):
    model = nnx.eval_shape(lambda: models.make(name, **options))
    paths = affine.choose("sar", model, "top")
    return {path.split("/")[1] for path in paths if "layers/" in path}, paths

  blocks, paths = chosen("resnet", depth=50)
  assert blocks == {str(n) for n in range(13)}
  assert any(path.startswith("stem/") for path in paths)
  blocks, paths = chosen("vit", num_layers=12)
  assert blocks == {str(n) for n in range(9)}
  assert not any(path.startswith("final_norm") for path in paths)


# ----- Cost -----


@pytest.mark.parametrize(
  ("name", "most"),
  [("batch", 1.15), ("alpha_bn", 1.15), ("unmix_tns", 1.5), ("tent", 3.2)],
)
def test_operations_beside_a_plain_forward_pass(name, most):
  """Of a network whose convolutions count, as they do in practice."""

  def operations(name):
    model = models.make(
      "cifar_resnet", depth=8, width=8, input_shape=(16, 16, 3)
    )
    adapter = make(name, model)
    state = jax.eval_shape(adapter.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((8, 16, 16, 3), jnp.float32)
    return jax.jit(adapter.step).lower(state, x).cost_analysis()["flops"]

  assert operations(name) <= most * operations("source")


# ----- Bad input -----

NO_NORM = {"norm": "layer_norm"}


@pytest.mark.parametrize(
  ("name", "options", "said"),
  [
    ("tnet", {}, "unknown adaptation method 'tnet'.*tent"),
    ("tent", {"lr": 1.0}, "no option 'lr'.*learning_rate"),
    ("tent", {"learning_rate": -1.0}, "learning_rate=-1.0; allowed"),
    ("tent", {"optimizer": "adamw"}, "optimizer='adamw'; allowed: 'adam'"),
    ("tent", {"steps": 0}, "steps=0"),
    ("tent", {"freeze": "."}, "freeze='.' leaves nothing"),
    ("tent", {"freeze": "("}, "no regular expression"),
    ("alpha_bn", {"test_weight": 2}, "test_weight=2; allowed: .*<= 1"),
    ("unmix_tns", {"components": 0}, "components=0"),
    ("unmix_tns", {"alpha": 1.0}, "alpha=1.0"),
    ("ema", {"passes": 3}, "passes=3; allowed: 1, 2"),
    ("lame", {"affinity": "rbff"}, "affinity='rbff'.*'rbf'"),
    ("note", {"capacity": 65, "update_every": 64}, "capacity=65"),
    ("eata", {"fisher_data": []}, "fisher_data is empty"),
    ("batch", NO_NORM, "batch adapts running statistics.*layer_norm"),
    ("adabn", NO_NORM, "adabn adapts running statistics"),
    ("osuda", NO_NORM, "osuda adapts running statistics"),
    ("iabn", {"norm": "batch_norm"}, "iabn is for iabn; .*'batch_norm'"),
    ("unmix_tns", {"norm": "iabn"}, "unmix_tns is for batch_norm"),
    ("alpha_bn", NO_NORM, "alpha_bn adapts running statistics"),
    ("tent", {"norm": "identity"}, "Images has none"),
  ],
)
def test_bad_options_and_models(name, options, said):
  options = dict(options)
  norm = options.pop("norm", "iabn" if name in OF_IABN else "batch_norm")
  with pytest.raises(errors.UserError, match=said):
    make(name, Images(norm), **options)


def test_a_batch_that_is_too_small():
  model = models.make(
    "mlp", norm="batch_norm", input_shape=(3,), num_layers=1, hidden_dim=2
  )
  adapter = make("batch", model)
  with pytest.raises(errors.UserError, match="more than one value"):
    adapter.step(adapter.init(), jnp.ones((1, 3)))
  adapter = make("note", update_every=6)
  with pytest.raises(errors.UserError, match="a batch of 4 examples"):
    adapter.step(adapter.init(), X[0][:4])


def test_what_has_no_fit_says_so():
  with pytest.raises(errors.UserError, match="tent has no fit"):
    make("tent").fit([X[0]])
  with pytest.raises(errors.UserError, match="the stream is empty"):
    make("adabn").fit([])


def test_a_model_whose_last_layer_is_unknown():
  class Odd(nnx.Module):
    def __init__(self):
      self.last = nnx.Linear(3, 2, rngs=nnx.Rngs(0))

    def __call__(self, x):
      return self.last(x)

  with pytest.raises(errors.UserError, match="lame needs to know"):
    make("lame", Odd())


@pytest.mark.parametrize("name", adapt.names())
def test_batches_that_explicit_axes_cut(name):
  """In shapes: JAX refuses there what it cannot lay out."""
  mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,))
  options = {"input_shape": SHAPE, "update_every": 6, "capacity": 6}
  # What methods have beside is tested where they are.
  model = Images("iabn" if name in ("iabn", "note") else "batch_norm")
  adapter = adapt.make(name, model, **(options if name == "note" else {}))
  first = adapter.init()
  cut = NamedSharding(mesh, PartitionSpec("data"))
  batch = jax.ShapeDtypeStruct(X.shape[1:], X.dtype, sharding=cut)
  with jax.set_mesh(mesh):
    logits, state = jax.eval_shape(adapter.step, first, batch)
  assert logits.sharding.spec[0] == "data"
  assert jax.tree.structure(state) == jax.tree.structure(first)
