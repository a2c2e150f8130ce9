import jax
import jax.numpy as jnp
import numpy as np

from normjax import rng


def _bits(key):
  return jax.random.key_data(key).tolist()


def test_streams_seeds_and_steps_are_all_different():
  keys = [
    _bits(rng.fold(seed, name, step))
    for seed in (0, 1)
    for name in ("init", "dropout")
    for step in (None, 0, 1)
  ]
  assert len({tuple(key) for key in keys}) == len(keys)


def test_a_traced_seed_gives_the_same_key():
  traced = jax.jit(lambda seed, step: rng.fold(seed, "dropout", step))
  assert _bits(traced(jnp.asarray(3), jnp.asarray(5))) == _bits(
    rng.fold(3, "dropout", 5)
  )


def test_host_seeds_fit_numpy_and_differ():
  seeds = {rng.host_seed(seed, "data") for seed in range(100)}
  assert len(seeds) == 100
  for seed in seeds:
    np.random.default_rng(seed)
