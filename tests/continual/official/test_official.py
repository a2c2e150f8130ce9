"""normjax against the official code of AdaB2N, as `record.py` has it."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from normjax import continual, norms
from normjax.continual import step as steps
from normjax.nn import variables as nn_variables
from normjax.nn.norm_layer import NormLayer
from normjax.norms import adab2n
from tests.continual.official import inputs

FOLDER = pathlib.Path(__file__).parent
# Both sides round float64 sums of fewer than 64 products, some steps in a row.
BOUND = 4 * 64 * 2**-53
NAMES = {"dweight": "dscale"}


@functools.cache
def recorded(file):
  with np.load(FOLDER / file) as found:
    return dict(found)


def of(file, case):
  found = recorded(file)
  return {
    NAMES.get(key.split("/")[1], key.split("/")[1]): value
    for key, value in found.items()
    if key.startswith(f"{case}/")
  }


def close(actual, expected, name=""):
  scale = max(1.0, np.abs(expected).max())
  np.testing.assert_allclose(
    actual, expected, rtol=0, atol=BOUND * scale, err_msg=name
  )


def wide(stats):
  return jax.tree.map(
    lambda a: a.astype(float) if a.dtype == jnp.float32 else a, stats
  )


@pytest.mark.parametrize("kappa", inputs.KAPPAS)
def test_schedule(kappa):
  expected = recorded("norms.npz")[f"eta/{kappa}"]
  with jax.enable_x64(True):
    n = jnp.arange(1.0, inputs.ETAS + 1)
    close(adab2n.rate(n, kappa, 0.9), expected)
    last = adab2n.rate(jnp.asarray(1e6), kappa, 0.9)
    # Its limits: an average of all for 0, else a constant.
    close(last, 1e-6 if kappa == 0 else 1 - 0.9**kappa)
    assert float(last) * (kappa == 1) in (0, pytest.approx(0.1, rel=1e-12))


OURS = {
  "ada_norm": ("adab2n", {"num_tasks": inputs.TASKS, "kappa": inputs.KAPPA}),
  "cn": ("cn", {"num_groups": 2}),
}


@pytest.mark.parametrize("case", OURS)
def test_norm(case):
  """Outputs, gradients and state; absent tasks; the first task."""
  theirs = of("norms.npz", case)
  name, options = OURS[case]
  norm = norms.make(name, **options)

  @jax.jit
  def one(params, stats, x, dy, context):
    def total(params, x):
      held = {"params": params, "stats": stats}
      y, moved = norm.apply(held, x, context=context)
      loss = jnp.sum(dy * y) + inputs.LAMBDA * moved.get("penalty", 0.0)
      return loss, (y, moved)

    return jax.grad(total, (0, 1), has_aux=True)(params, x)

  with jax.enable_x64(True):
    made = norm.init((inputs.CHANNELS,), float)
    scale, bias = map(jnp.asarray, inputs.affine())
    params = made["params"] | {"scale": scale, "bias": bias}
    if "task_weight" in params:
      params["task_weight"] = jnp.asarray(inputs.TASK_WEIGHT)
    stats = wide(made["stats"])
    for n, (current, of_example) in enumerate(inputs.NORM_STEPS):
      context = None
      if name == "adab2n":
        context = adab2n.Tasks(jnp.asarray(of_example), jnp.asarray(current))
      x, dy = jnp.asarray(inputs.images(n)), jnp.asarray(inputs.cotangents(n))
      (dparams, dx), (y, stats) = one(params, stats, x, dy, context)
      ours = {"y": y, "dx": dx, **stats}
      ours |= {f"d{key}": value for key, value in dparams.items()}
      for key, value in theirs.items():
        close(ours[key], value[n], f"{key} of step {n}")


class Net(nnx.Module):
  """1x1 convolution, norm, ReLU, mean, linear."""

  def __init__(self, norm):
    for name, value in inputs.start().items():
      if name in ("kernel", "head", "head_bias"):
        setattr(self, name, nnx.Param(jnp.asarray(value)))
    self.norm = NormLayer(norm, (inputs.CHANNELS,))

  def __call__(self, x, *, train):
    h = self.norm(x @ self.kernel[...], train=train)
    pooled = jnp.mean(nnx.relu(h), axis=(1, 2))
    return pooled @ self.head[...] + self.head_bias[...]


ADA = ("adab2n", {"num_tasks": inputs.TASKS, "kappa": inputs.KAPPA})
DERPP = f"derpp(alpha={inputs.ALPHA}, beta={inputs.BETA})"
LEARNERS = {
  "derpp": (DERPP, "separate", ("batch_norm", {})),
  "derpp_ada": (DERPP, "joint", ADA),
  "er_ace": ("er_ace", "separate", ("batch_norm", {})),
  "er_ace_ada": ("er_ace", "joint", ADA),
}


@pytest.mark.parametrize("case", LEARNERS)
def test_learner(case):
  """Loss, parameters and statistics, step after step."""
  theirs = of("learners.npz", case)
  learner, forward, (name, options) = LEARNERS[case]
  learner = continual.resolve(learner)
  with jax.enable_x64(True):
    start = {k: jnp.asarray(v) for k, v in inputs.start().items()}
    structure, held = nn_variables.split(Net({"name": name, **options}))
    own = {k: start[k] for k in held["params"]["norm"]}
    params = held["params"] | {"norm": own}
    program = steps.Program(structure, learner, forward, inputs.PER_TASK)
    hyper = steps.Hyper(
      inputs.LEARNING_RATE, inputs.PENALTY, inputs.PENALTY_FROM, learner.hyper
    )
    update = jax.jit(functools.partial(steps.update, program))
    state = steps.State(
      params,
      wide(held["stats"]),
      optax.sgd(0.1).init(params),
      None,
      jnp.asarray(-1),
      0,
    )
    for n, (task, labels, drawn) in enumerate(inputs.STEPS):
      new, *images = map(jnp.asarray, inputs.stream(n))
      kept = jnp.asarray(inputs.kept(n)), None
      replays = tuple(
        steps.Batch(x, jnp.asarray(y), z)
        for x, y, z in zip(images, drawn or ((), ()), kept, strict=True)
      )
      replays = replays[: learner.num_replays] if drawn else ()
      if task < learner.replays_from:
        replays = ()
      state, _, loss = update(
        hyper,
        state,
        steps.Batch(new, jnp.asarray(labels)),
        replays,
        jnp.asarray(task),
        jax.random.key(0),
      )
      ours = {"loss": loss, **state.params, **state.params["norm"]}
      ours |= state.stats["norm"]
      for key, value in theirs.items():
        close(ours[key], value[n], f"{key} of step {n}")
