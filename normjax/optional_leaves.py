"""Leaves that a config may lack, and what they then are.

With these values they are in no resolved config, so that a run's name is that
of the time before they were there.
"""

from collections.abc import Container, Mapping
from typing import Any

from normjax.imports import is_outside

OPTIONAL: dict[str, Any] = {
  "objective.name": "",
  "optimizer.keep": "",  # The optimizer's own, like the mask.
  "optimizer.mask": "",
  "schedule.milestones": (),
  "schedule.restart_every": 0,
  "schedule.restart_warmup_steps": 0,
  "continual.learner": "",
  "continual.num_tasks": 5,
  "continual.buffer_size": 500,
  "continual.replay_size": 10,
  "continual.forward": "separate",
  "continual.penalty": 0.0,
  "continual.penalty_from": 0,
  "context.method": "",
  "context.num_controls": 0,
  "context.control_class": 0,
  "context.protocols": ("mixed_64", "sorted_64", "mixed_8", "sorted_8"),
  "evaluate.adapt.methods": (),
  "evaluate.adapt.stream": "reset_each_shift",
  "evaluate.adapt.corruptions": ("common",),
  "evaluate.adapt.severity": 5,
  "evaluate.adapt.batch_size": 64,
  "evaluate.adapt.concentration": 0.1,
  "evaluate.adapt.passes": 1,
  "evaluate.adapt.num_examples": 0,
  "evaluate.metrics": (),
  "evaluate.split": "validation",
  "evaluate.weights": "trained",
  "train.block_gradients": False,
  "train.cutmix_alpha": 0.0,
  "train.ema_decay": 0.0,
  "train.ema_warmup": False,
  "train.gradient": "backpropagation",
  "train.layer_decay": 1.0,
  "train.layout.data": 0,
  "train.layout.fsdp": 1,
  "train.layout.tensor": 1,
  "train.layout.min_size": 2**14,
  "train.layout.matrices": "auto",
  "train.layout.batch_statistics": "global",
  "train.matmul_precision": "float32",
  "train.mixup_alpha": 0.0,
  "train.mixup_mode": "batch",
  "train.mixup_probability": 1.0,
  "train.mixup_switch_probability": 0.5,
  "train.param_dtype": "float32",
  "train.param_rounding": "nearest",
  "train.perturbation_eps": 1e-3,
  "log.wandb_project": "",
  "log.wandb_group": "",
  "log.wandb_name": "",
}
# Of those, what is left out with another leaf only: a scalar that is traced is
# so at its default, too.
BESIDE = {"train.perturbation_eps": "train.gradient"}
# Options that components' files have: a config that has such a component has
# them, a resolved one only where they are not at these values.
ADDED: dict[str, Any] = {
  "data.domain_bins": 2,
  "data.domain_column": "",
  "data.domain_edges": (),
  "data.domains": "",
  "data.test_domains": "",
  "data.validation_domains": "",
  "data.threads": 1,
  "data.token_cache": False,
  "data.window": "stream",
  "data.workers": 0,
  "data.train_bytes": None,
  "model.activation_gain_in": "activations",
  "model.attention_bias": None,
  "model.drop_path_rate": 0.0,
  "model.embedding_std": 0.02,
  "model.expansion": 0.5,
  "model.final_expansion": 2.0,
  "model.has_class_token": None,
  "model.head": "linear",
  "model.head_dim": None,
  "model.linear": "dense",
  "model.norm_after_pooling": False,
  "model.padding": "same",
  "model.pool_shortcut": False,
  "model.reader_output_scales": None,
  "model.rope_scaling": "none",
  "model.rotary_dim": None,
  "model.stem_channels": None,
  "model.stem_width": None,
  "model.weight_standardization_eps": None,
  "norm.scale_form": "plain",
  "objective.logits_dtype": "float32",
}
# Blocks all of whose leaves may be absent.
BLOCKS = ("continual", "context", "evaluate.adapt", "train.layout")
# How fast a run's data comes. No number of it depends on these: they are in no
# run's name and in no program's key, so that a run goes on with others.
PACE = ("data.threads", "data.token_cache", "data.workers")


def without_pace(resolved: Mapping[str, Any]) -> dict[str, Any]:
  """What a run's numbers depend on, of a resolved config."""
  data = resolved.get("data")
  if not isinstance(data, dict) or is_outside(str(data.get("name"))):
    return dict(resolved)
  kept = {k: v for k, v in data.items() if f"data.{k}" not in PACE}
  return {**resolved, "data": kept}


def block_of(tree: Any, block: str) -> Any:
  """The block at a dotted path; None where there is none."""
  for key in block.split("."):
    if not hasattr(tree, "keys") or key not in tree:
      return None
    tree = tree[key]
  return tree


def leave_out(resolved: dict[str, Any], components: Container[str]) -> None:
  """Takes the leaves at their defaults out of a resolved config.

  Args:
    resolved: plain dicts and lists, changed in place.
    components: blocks that may be left out as a whole.
  """
  for path, default in (OPTIONAL | ADDED).items():
    block, _, key = path.rpartition(".")
    holder = block_of(resolved, block)
    if isinstance(holder, dict) and key in holder:
      # JSON has no tuples.
      value = tuple(v) if isinstance(v := holder[key], list) else v
      # To Python True is 1; here it is a mistake, which is named elsewhere.
      same_kind = isinstance(value, bool) == isinstance(default, bool)
      beside = BESIDE.get(path, "").rpartition(".")[2]
      if (
        same_kind
        and value == default
        and beside not in holder
        and not is_outside(str(holder.get("name")))
      ):
        del holder[key]
    if block in components and not holder:
      resolved.pop(block, None)
    above, _, last = block.rpartition(".")
    if block in BLOCKS and holder == {}:
      del (block_of(resolved, above) if above else resolved)[last]
