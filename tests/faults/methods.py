"""Planted in norms and optimizers."""

from tests.faults.fault import Fault

NORMS = "tests/norms/test_contract.py::TestNorm"
OPTIM = "tests/optim/test_contract.py"

FAULTS = (
  # ----- Norms -----
  Fault(
    "axis of a length",
    "normjax/norms/scale_norm.py",
    "square = jnp.sum(wide * wide, axis=-1, keepdims=True)",
    "square = jnp.sum(wide * wide, axis=-2, keepdims=True)",
    f"{NORMS}::test_equals_reference_in_float64[scale_norm]",
  ),
  Fault(
    "place of epsilon",
    "normjax/norms/running.py",
    "r = lax.rsqrt(batch.variance + eps)",
    "r = 1 / (jnp.sqrt(batch.variance) + eps)",
    f"{NORMS}::test_equals_reference_in_float64[batch_norm]",
  ),
  Fault(
    "dtype of an accumulation",
    "normjax/norms/moments.py",
    "  return x.astype(jnp.promote_types(x.dtype, jnp.float32))",
    "  return x",
    f"{NORMS}::test_statistics_in_float32"
    "[bfloat16-group_norm-num_groups=2-eps=0.1]",
  ),
  Fault(
    "mask of a mean ignored",
    "normjax/norms/moments.py",
    "jnp.sum(jnp.where(mask, x, 0), axis=tuple(axes), keepdims=True)",
    "jnp.sum(x, axis=tuple(axes), keepdims=True)",
    f"{NORMS}::test_mask[batch_norm]",
  ),
  Fault(
    "biased variance is kept",
    "normjax/norms/running.py",
    "return self.variance * (self.size / jnp.maximum(self.size - 1, 1))",
    "return self.variance",
    f"{NORMS}::test_equals_reference_in_float64[batch_norm]",
  ),
  Fault(
    "momentum swapped",
    "normjax/norms/running.py",
    "momentum * old + (1 - momentum) * values",
    "(1 - momentum) * old + momentum * values",
    f"{NORMS}::test_equals_reference_in_float64[batch_norm]",
  ),
  Fault(
    "term of a backward pass lost",
    "normjax/norms/running.py",
    "centered = wide - dbias / count - normalized * (dscale / count)",
    "centered = wide - dbias / count",
    f"{NORMS}::test_gradients[batch_norm]",
  ),
  Fault(
    "options left out of equality",
    "normjax/norms/base.py",
    "options: Mapping[str, Any] = dataclasses.field(hash=False)",
    "options: Mapping[str, Any] = dataclasses.field(compare=False)",
    f"{NORMS}::test_is_a_value[frn-eps=0.1-learned_eps=True]",
  ),
  Fault(
    "method that equals no other",
    "normjax/norms/scale_norm.py",
    "apply_fn=_apply",
    "apply_fn=lambda *args, **options: _apply(*args, **options)",
    f"{NORMS}::test_is_a_value[scale_norm]",
  ),
  Fault(
    "length of a direction counts",
    "normjax/norms/magnitude.py",
    "ratio = g.astype(lengths.dtype) / jnp.where(lengths > 0, lengths, 1)",
    "ratio = g.astype(lengths.dtype)",
    f"{NORMS}::test_equals_reference_in_float64[layer_norm-eps=0.1"
    "-use_bias=False-impl=reference-scale_form=magnitude_direction]",
  ),
  # ----- Optimizers -----
  Fault(
    "dtype of a moment ignored",
    "normjax/optim/lion.py",
    "optax.scale_by_lion(b1, b2), mu=mu_dtype",
    "optax.scale_by_lion(b1, b2), mu=None",
    f"{OPTIM}::TestOptimizer::test_moment_dtypes[lion]",
  ),
  Fault(
    "sign of a step",
    "normjax/optim/compose.py",
    "[-rate * u for u in flat]",
    "[rate * u for u in flat]",
    f"{OPTIM}::TestOptimizer::test_converges[apollo_mini]",
  ),
  Fault(
    "bias correction of the step before",
    "normjax/optim/safe.py",
    "jnp.expm1(jnp.asarray(count, dtype) * log)",
    "jnp.expm1((jnp.asarray(count, dtype) + 1) * log)",
    "tests/optim/test_safe.py::test_bias_correction[0.9]",
  ),
  Fault(
    "decay of biases",
    "normjax/optim/groups.py",
    r"(bias|\w+_bias|scale|gain",
    "(scale|gain",
    f"{OPTIM}::TestComposition::test_mask_picks_what_decays[adamw]",
  ),
  Fault(
    "mask of the decay ignored",
    "normjax/optim/swan.py",
    "    mask=mask,\n",
    "    mask=None,\n",
    f"{OPTIM}::TestOptimizer"
    "::test_decay_is_of_the_leaves_of_the_mask[swan-preset=inexact]",
  ),
  Fault(
    "option of the fallback lost",
    "normjax/optim/routed.py",
    "for k, v in values.items() if getattr(self, k) is None}",
    "for k, v in values.items()}",
    f"{OPTIM}::TestOptimizer::test_scalars_are_traced[sinkgd]",
  ),
  Fault(
    "fallback and matrices swapped",
    "normjax/optim/compose.py",
    "{method: matrices, FALLBACK: fallback}",
    "{method: fallback, FALLBACK: matrices}",
    "tests/optim/test_muon.py::test_learning_rate_of_the_fallback",
  ),
  Fault(
    "ratio of the decay lost",
    "normjax/optim/adamp.py",
    "(p + weight_decay * ratio * w if decayed else p)",
    "(p + weight_decay * w if decayed else p)",
    f"{OPTIM}::test_equals_reference[adamp-weight_decay=0.3-float64]",
  ),
  Fault(
    "bound of an option lost",
    "normjax/optim/racs.py",
    "validate.scalars(method, gamma=gamma)",
    "validate.scalars(method)",
    f"{OPTIM}::TestOptimizer::test_bad_options[racs]",
  ),
  Fault(
    "bins of 8 bits",
    "kernels_pallas/codes.py",
    "_boundaries(2**i if signed else 2 ** (i + 1))",
    "_boundaries(2 ** (i + 1) if signed else 2**i)",
    "tests/optim/test_blockwise.py::test_signed_map",
  ),
  Fault(
    "outputs that are compared with themselves",
    "normjax/optim/scale_invariance.py",
    "base = jnp.where(row[0] < 0, y, base)",
    "base = y",
    "tests/optim/test_scale_invariance.py"
    "::test_outputs_in_their_standard_deviations",
  ),
  Fault(
    "unit vectors along the other axis",
    "normjax/optim/normalized_weights.py",
    "return [(2,) if re.fullmatch(writers, paths[n]) else (1,)",
    "return [(1,) if re.fullmatch(writers, paths[n]) else (2,)",
    "tests/optim/test_normalized_weights.py::test_the_matrices_of_a_model[True]",
  ),
  Fault(
    "step before it is normalized",
    "normjax/optim/normalized_weights.py",
    "safe.normalize(w + u, along, 0.0) - w",
    "safe.normalize(w, along, 0.0) + u - w",
    "tests/optim/test_normalized_weights.py::test_example",
  ),
  Fault(
    "step of another length than the matrix",
    "normjax/optim/scale_invariance.py",
    "safe.norm(x, (1, 2)) * safe.normalize(z, (1, 2), 0.0)",
    "safe.normalize(z, (1, 2), 0.0)",
    "tests/optim/test_scale_invariance.py"
    "::test_the_step_to_compare_with_is_as_long_as_the_matrix",
  ),
  Fault(
    "two codes of a byte swapped",
    "normjax/optim/four_bits.py",
    "return (pairs[..., 0] << _HALF) | pairs[..., 1]",
    "return (pairs[..., 1] << _HALF) | pairs[..., 0]",
    "tests/optim/test_codebooks.py::test_the_first_of_two_is_in_the_high_half",
  ),
  Fault(
    "a bisection goes on in the wrong part",
    "normjax/optim/four_bits.py",
    "row[half - 1 :: 2 * half], reached[::-1]",
    "row[half - 1 :: 2 * half], reached",
    "tests/optim/test_four_bits.py::test_ranks",
  ),
  Fault(
    "second moments rounded in their own space",
    "normjax/optim/codebooks.py",
    "if rounding.correction is None:",
    "if True:",
    "tests/optim/test_4bit.py::test_zip_sr_equals_its_transcription",
  ),
  Fault(
    "what rounding has taken is lost",
    "normjax/optim/rounded_parameters.py",
    "left = round_to(u + (wide - moved), w.dtype)",
    "left = jnp.zeros_like(u)",
    "tests/optim/test_rounded_parameters.py::test_stuck_weight",
  ),
  Fault(
    "gradients of parameters as they are held",
    "normjax/train/step.py",
    "trained = param_dtype.widen(frozen.select(state.params, recipe.trained))",
    "trained = frozen.select(state.params, recipe.trained)",
    "tests/train/test_param_dtype.py::"
    "test_a_step_is_that_of_the_wide_parameters",
  ),
)
