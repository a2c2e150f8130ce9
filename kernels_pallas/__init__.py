"""Pallas kernels with a pure-jnp reference each; usable without normjax."""
