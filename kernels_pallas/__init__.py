"""Pallas kernels with a pure-jnp reference each; usable without normjax."""

# Each is a package: a function of that name, its `OP`; in `specs` the `SPECS`
# of benchmarks and the `CONTRACT`.
OPS = {
  "adam_8bit_update": "kernels_pallas.adam_8bit_update",
  "attention": "kernels_pallas.attention",
  "layer_norm": "kernels_pallas.layer_norm",
  "lion_8bit_update": "kernels_pallas.lion_8bit_update",
  "momentum_8bit_update": "kernels_pallas.momentum_8bit_update",
  "rms_norm": "kernels_pallas.rms_norm",
  "seednorm": "kernels_pallas.seednorm",
  "sinkhorn": "kernels_pallas.sinkhorn",
}
