"""Tests that `make test` leaves to `make test-all`, and what it keeps of each.

Here is what shows on all what other tests show on some. A test that is long by
itself is marked where it is.
"""

import re

# Optimizers that share all but a detail with the others of their families.
_LIKE_OTHERS = (
  "adamw_8bit|lion_8bit|momentum_8bit|apollo_mini|fira|normuon|sgdp"
)
# Optimizers of families of their own that share the aliases' code with others:
# adamp and nap_adamw are made as adamw is, ei_sgd as sgd.
_MADE_LIKE = "adamp|nap_adamw|ei_sgd"
# Norms whose layer is that of another: `cases.FAMILIES` has the reasons.
_LAYER_LIKE = (
  "rms_norm|crms_norm|scale_norm|dyt|derf|seednorm|pre_affine|l2_norm|adain"
  "|group_norm|instance_norm|evonorm|switchable_norm|identity|cn"
)
# A pattern of a test's id -> what `make test` still shows of it.
LEFT_OUT = {
  r"e2e/test_extend.py::test_a_sweep_runs_over_them": (
    "test_beside finds own parts in a child process; test_extend counts files"
  ),
  r"e2e/test_resume.py": (
    "train/test_interrupt: stopped and resumed to the last bit in one process;"
    " sweep/test_interrupt kills processes; train/test_loop damages files"
  ),
  r"docs/test_prose.py::test_python_blocks_run"
  r"\[docs/guides/(optimizers|models)": (
    "docstrings' examples of one optimizer of each family; README, tutorials"
  ),
  # ----- Models: five architectures stand for thirteen -----
  r"models/test_contract.py::.*nfnet": "cifar_nf_resnet and nf_resnet",
  r"models/test_contract.py::.*test_bfloat16"
  r".*\[(resnet|spiking|vit|gpt2|mlp|fixup|nf_resnet)": (
    "llama and cifar_resnet compute in bfloat16"
  ),
  r"models/test_contract.py::.*test_statistics_move.*-(rms_norm|identity)\]": (
    "models with batch_norm have statistics to move"
  ),
  r"models/test_everywhere.py::.*\[llama-(pre|post|peri|hybrid)-": (
    "the normalized stream, which all 28 norms are asked for"
  ),
  r"models/test_padding.py::test_positions_may_be_given\[gpt2": "llama",
  r"models/test_everywhere.py::.*residual_network\[group_norm-v2": (
    "the contract of the residual networks"
  ),
  r"models/test_constants.py::test_no_large_constant"
  r"\[(sew_resnet|nfnet|cifar_nf_resnet|spiking_vgg)-\]": (
    "their siblings: cifar_resnet, nf_resnet, spiking_mlp"
  ),
  r"models/test_contract.py::.*test_one_compilation.*"
  r"\[(resnet|nf_resnet|spiking_vgg|gpt2|vit)-": (
    "llama, mlp, cifar_resnet, spiking_mlp"
  ),
  r"models/test_depth.py::test_gradients_by_depth": "the streams by depth",
  r"models/test_resnet_equality.py::test_equals_a_transcription\[.*-eval\]": (
    "the same networks in training"
  ),
  r"models/test_transformer.py::test_the_future_.*\[gpt2-(?!pre\])": (
    "llama with every placement"
  ),
  r"models/test_constants.py::test_a_program_does_not_grow.*True-": (
    "unrolled layers"
  ),
  r"models/test_self_normalizing.py::test_relu_and_tanh.*\[(relu-lecun|tanh)": (
    "relu with its own initialization"
  ),
  r"nn/test_linen.py::test_backward_statistics_.*\[unified": "power_norm",
  r"nn/test_weight_norm_layer.py::test_every_hidden_.*\[cifar": "mlp",
  r"nn/test_folding.py::test_modes_are_the_papers_formulas"
  r"\[(bias|grouped|strided)": "plain and depthwise convolutions",
  r"nn/test_norm_layer.py::test_(is_the_norm|training_step_under_jit)"
  rf"\[({_LAYER_LIKE})": "one norm of each other family",
  r"nn/test_stable_embedding.py::test_optimizer_.*\[(momentum|lion)": (
    "adam_8bit"
  ),
  r"models/test_linen.py::test_it_trains_.*\[\]": "with power_norm",
  r"nn/test_mixing.py::TestMixing::test_(low_|masked|grouped|an_example)"
  r".*\[(softmax1|soft1|nalaformer_paper)": "softmax, soft, nalaformer",
  r"models/test_norms_of_sequences.py::test_padding_.*\[unified": "power_norm",
  r"nn/test_stack.py::test_scanned.*batch_norm-post": "rms_norm, hybrid_star",
  r"nn/test_conv_norm.py::test_tune_is_eval\[(weight norm|ghost batches)": (
    "strided and depthwise convolutions"
  ),
  r"convert/test_deploy.py::test_logits_.*\[train\]": "tune and eval",
  r"models/test_modes.py::.*decide_where.*\[(gpt2|vit|nfnet|resnet|sew)": (
    "llama, cifar_resnet and the spiking networks"
  ),
  r"models/test_depth.py::test_residual_scaling_"
  r".*\[(skip|inverse_sqrt|layer)": ("rezero and inverse_depth"),
  r"nn/test_mixing.py::TestMixing::test_gradients\[nalaformer_paper": (
    "nalaformer"
  ),
  r"models/test_padding.py::test_padding_does_not_show\[gpt2-mixing": (
    "llama with every mixing"
  ),
  r"models/test_constants.py::test_no_large_constant"
  r"\[(resnet-|fixup_cifar_resnet-|llama-mixing[123]|vit-\])": (
    "cifar_resnet, two mixings, the patches of vit"
  ),
  r"models/test_modes.py::.*decide_where.*"
  r"\[(spiking_vgg|fixup_cifar_resnet|llama, scanned)": (
    "spiking_mlp, nf_resnet, llama"
  ),
  r"models/test_modes.py::TestModel::test_noise_alone"
  r"\[(resnet|nf_resnet|cifar_nf|sew|spiking_vgg|llama, scanned)": (
    "cifar_resnet, nfnet, spiking_mlp, llama"
  ),
  r"models/test_modes.py::.*test_statistics_of_the_batch.*"
  r"\[(gpt2|vit|nfnet|resnet|sew|spiking_vgg|fixup)": (
    "llama, cifar_resnet, nf_resnet, spiking_mlp"
  ),
  r"models/test_depth.py::test_stream_grows_"
  r".*\[(parallel|reordered|sandwich)": (
    "pre, peri, mix, sub_ln and layer_norm_scaling"
  ),
  r"models/test_depth.py::test_stream_has_one_length\[keel": "post, deep_norm",
  r"models/test_resnet_equality.py::test_gradient_.*v1-project": "v2-pad",
  r"models/test_resnet_equality.py::test_equals_a_.*"
  r"(v1-pad|v2-project|bottleneck-v1-)": "v1-project, v2-pad, bottleneck-v1.5",
  r"models/test_self_normalizing.py::test_deep_selu_.*\[0.1\]": (
    "no dropout; alpha dropout keeps mean and variance"
  ),
  r"models/test_sizes.py::test_(resnet\[(101|152)|gpt2\[medium|vit\[base"
  r"|llama\[(130m|250m|350m|1b|7b)|cifar_resnet\[(56|14-64))": (
    "one or two sizes of each"
  ),
  r"models/test_inputs.py::test_images_.*"
  r"\[(sew_resnet|cifar_nf_resnet|nf_resnet|resnet|spiking_vgg)": (
    "cifar_resnet, nfnet, vit"
  ),
  r"models/test_inputs.py::test_what_is_drawn_.*\[cifar_nf_resnet": "nfnet",
  r"models/test_inputs.py::test_tokens_outside_.*asarray1-": "asarray0, tolist",
  r"models/test_contract.py::.*test_statistics_move.*\[spiking_vgg": (
    "spiking_mlp"
  ),
  r"models/test_contract.py::.*test_(logits_|bfloat16_)"
  r".*\[(cifar_nf|llama-batch|mlp-rms)": (
    "nf_resnet, llama with rms_norm, mlp with batch_norm; norms in llama:"
    " test_everywhere"
  ),
  r"nn/test_modes.py::TestLayer::.*"
  rf"\[({_LAYER_LIKE})\]": "layer_norm, batch_norm, bcn, frn, all other layers",
  r"nn/test_linen.py::test_is_the_norm"
  rf"\[({_LAYER_LIKE})": "one norm of each other family",
  r"nn/test_linen.py::test_trains_in_a_train_state\[(bhyt|batch_renorm|bcn)": (
    "layer_norm, batch_norm, power_norm, unified_norm"
  ),
  # ----- Norms: defaults stand for options -----
  r"norms/test_contract.py::TestNorm::(?!test_equals_ref)"
  r".*\[evonorm_(b[12]|s[12])": ("evonorm_b0 and evonorm_s0"),
  r"nn/test_linen.py::test_trains_in_a_train_state\[(identity|frn|gated)": (
    "one norm of each other family"
  ),
  r"norms/test_masks.py::TestMasks::.*\[evonorm_(b[12]|s[12])": (
    "evonorm_b0 and evonorm_s0"
  ),
  r"norms/test_contract.py::TestNorm::test_statistics_in_float32"
  r"\[\w+-((layer|rms|batch|crms|l2|gated|power|unified)_norm|seednorm|dyt)-": (
    "their defaults"
  ),
  r"norms/test_weights.py::.*test_jit_and_vmap.*-un": "the biased ones",
  r"norms/test_weights.py::.*test_zero_and_constant_.*-unbiased": (
    "the biased ones"
  ),
  r"norms/test_contract.py::TestNorm::test_(mask|evaluation_keeps_statistics)"
  r"\[(layer|rms|batch|crms|l2|gated|power|unified)_norm-": "their defaults",
  r"norms/test_contract.py::TestNorm::test_declared_invariances"
  r"\[((layer|rms|batch|crms|l2|gated|power|unified)_norm|seednorm|dyt)-": (
    "their defaults"
  ),
  r"norms/test_contract.py::TestNorm::test_statistics_in_float32\[float16": (
    "bfloat16 and float32"
  ),
  r"norms/test_masks.py::TestMasks::.*"
  r"\[(crms_norm|scale_norm|dyt|derf|pre_affine|l2_norm|adain|instance_norm)": (
    "one norm of each way to average; of every norm test_contract's test_mask"
  ),
  r"norms/test_range.py::test_range\[(crms_norm|scale_norm|derf|instance_norm"
  r"|evonorm_([bs][12]))": "those with the same sums",
  r"norms/test_contract.py::TestTransformations::"
  r"test_(transformations|eight_devices_equal_one)"
  r"\[(batch_renorm|gated_norm|identity)": "one norm of each other family",
  r"norms/official/test_official.py::test_trajectory"
  r"\[(power_norm|unified_norm|unified_norm_window_1)\]": (
    "the same with masks, and filtered"
  ),
  r"norms/test_weights.py::TestWeightNorm::test_equals_.*"
  r"\[\(3, 3, 1, 5\)": "filters of more channels, and matrices",
  r"norms/test_weights.py::TestWeightNorm::.*spectral_norm-1-0": (
    "three iterations, two of them at the start"
  ),
  r"norms/test_unified_norm.py::test_steps_across_the_warm_up\[False": "masks",
  r"norms/test_rounding.py::TestConstant::.*"
  r"\[(adain|instance_norm|crms_norm|evonorm_\w[12])": (
    "one norm of each way to centre"
  ),
  r"norms/test_power_norm.py::test_steps_across_the_warm_up\[True-True\]": (
    "the other three of masks and codes"
  ),
  r"norms/test_power_norm.py::test_steps_across_the_warm_up\[False-False\]": (
    "the other three of masks and codes"
  ),
  # ----- Optimizers: one of a family stands for it -----
  r"optim/test_contract.py::test_equals_reference\[(?!adamw-|muon-|sinkgd-|"
  r"adamp-|lion-|sgd-).*float32\]": (
    "all in float64, six in float32; test_traces has every dtype"
  ),
  r"optim/test_contract.py::TestOptimizer::"
  rf"test_(scalars_are_traced|converges|traces)\[({_LIKE_OTHERS})": (
    "adam_8bit, apollo, galore, muon, adamp"
  ),
  **{
    rf"optim/{file}.py::.*\[(0-)?({_LIKE_OTHERS})": (
      "adam_8bit, apollo, galore, muon, adamp"
    )
    for file in ("test_states", "test_trees", "test_8bit", "test_injected")
  },
  r"optim/test_contract.py::test_equals_reference"
  rf"\[({_LIKE_OTHERS})-.+-float64": ("each with its defaults"),
  **{
    rf"optim/{test}.*\[(.*-)?({_MADE_LIKE})": (
      "adamw, muon, galore, soap, adam_8bit and sgd"
    )
    for test in (
      "test_contract.py::TestComposition::",
      "test_contract.py::TestExecution::",
      "test_contract.py::test_docstring_example",
      "test_trees.py::TestTrees::",
      "test_states.py::TestStateNumbers::",
      "test_meshes.py::",
      "test_injected.py::",
      "test_empty_leaves.py::",
    )
  },
  r"optim/test_contract.py::test_equals_reference\[(adamp|lion)-.*float32": (
    "adamw, muon, sinkgd and sgd in float32, all in float64"
  ),
  r"optim/test_trees.py::TestMatrices::test_equinox_.*\[(adamp|nap_adamw)": (
    "muon, galore, soap; as in flax all are tested"
  ),
  r"optim/test_states.py::TestStates::.*"
  r"\[(apollo|swan|conda|racs|lamb|nfnet_sgd|nap_adamw|adamp)\]": (
    "one of each kind of state: adamw, adafactor, galore, soap, dion, adam_8bit"
  ),
  r"optim/test_contract.py::TestOptimizer::test_converges"
  r"\[(?!adamw|muon|sgd|soap|adam_8bit|adafactor)": (
    "six; what the others do at each step: test_equals_reference"
  ),
  r"optim/test_contract.py::TestOptimizer::test_traces\[bfloat16": (
    "float32; low precision of one of each family, and in its states"
  ),
  r"optim/test_blockwise.py::test_flat_equals_.*\[(1|5|256)-(255|257)-": (
    "blocks that are full, and one of many sizes that is not"
  ),
  r"optim/test_quantize_state.py::test_wraps_any_.*"
  r"-(adan|amsgrad|rms|adagrad|trace|adam)\]": (
    "adamw, lion, lamb, muon, adamp, accumulated and injected"
  ),
  r"optim/test_8bit.py::(test_(gradient_that_|sharded_)|TestQuantized::)"
  r".*(adamw_8bit|lion_8bit|momentum_8bit)": "adam_8bit",
  r"optim/test_8bit.py::test_every_step_.*-64-": "blocks of 256",
  r"optim/test_multi_norm.py::test_beta_08": "the other rounds of multi_norm",
  r"optim/test_meshes.py::test_update_out_of_jit\[AxisType.Auto": "Explicit",
  r"optim/test_nap.py::test_norms_stay_.*1000\]": "200 steps",
  # ----- Steps and data -----
  r"train/test_loop.py::test_the_last_state_is_evaluated_under_corr": (
    "the data contract corrupts images in evaluation alone"
  ),
  r"train/test_zero_gradient.py::test_since_when_.*\[steps[1236]-": (
    "none, from a later step, back again, between and behind the rows"
  ),
  r"sweep/test_interrupt.py::test_killed_at_five": "killed from outside",
  r"sweep/test_interrupt.py::test_an_interrupted_sweep_.*\[15": "SIGINT",
  r"sweep/test_interrupt.py::test_a_signal_that_is_ignored.*\[1\]": "SIGTERM",
  r"bench/test_optim.py::test_packages_that_are_missing": (
    "test_a_peer_whose_package_is_missing"
  ),
  r"train/test_step.py::test_eight_devices_give": "eight with accumulation",
  r"train/test_interrupt.py::test_a_signal_saves_.*\[event[134]-": (
    "two other moments"
  ),
  r"train/test_checkpoint.py::test_a_machine_that_fails_.*\[error[01]\]": (
    "one other fault"
  ),
  r"train/test_premise.py::test_decoders": "the run that notes its premise",
  r"train/test_frozen.py::test_the_command_shows": "the mask of the step",
  r"e2e/test_probes.py::test_probes_are_in_the_rows": "test_step's probes",
  r"bench/test_models.py::test_the_resnet_of_flax": "the LLaMA of Flax",
  r"bench/test_models.py::test_the_llama_of_flax_.*scanned": "unrolled",
  r"bench/test_norms.py::test_norms_of_images": "norms of tokens are measured",
  r"e2e/test_sweep.py::test_dry_run_says": "test_launch's dry run",
  r"data/test_cache_repair.py::test_two_processes_prepare": (
    "test_two_processes_at_once_prepare_once"
  ),
  r"data/test_embedded_sources.py::test_preparing_needs_no_tensorflow": (
    "no module imports it (make lint)"
  ),
  r"data/test_contract.py::.*\[(imagenet2012|cifar10)\]": (
    "mnist and the embedded sets"
  ),
  r"train/test_block_gradients.py::test_steps_are_.*\[lisa-changes3": (
    "lisa in branches, badam in a loop and with accumulation"
  ),
  r"train/sharding/test_factors.py::test_a_mesh_.*\[(data|fsdp)\]": (
    "both axes at once"
  ),
  r"zeroth_order/test_cost.py::test_hybrid_goes_.*\[True": "unrolled layers",
  r"sweep/test_heads.py::test_a_tiny_sweep": (
    "e2e/test_sweep runs one; the heads' plan, norms and objectives here"
  ),
}
_PATTERN = re.compile("|".join(f"(?:{p})" for p in LEFT_OUT))


def is_left_out(test_id: str) -> bool:
  """Whether `make test` leaves the test to `make test-all`."""
  return _PATTERN.search(test_id) is not None
