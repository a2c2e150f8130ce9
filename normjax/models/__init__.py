"""The model zoo: any norm in any model.

model = models.make("llama", norm="dyt", rngs=nnx.Rngs(0))
logits = model(tokens, train=False)

What a model is, also one of your own (`model.name=package.module:factory`):

The factory, a class or a function, is given by name what it takes of
- `num_classes` and `input_shape` (images, features) or `vocab_size` (tokens),
  as the data has them;
- `norm`, the block of the config: `nn.norm_layer.NormLayer(norm, shape)` is the
  layer. Without it a sweep over `norm.name` is refused;
- `compute_dtype`, `train.precision`; `rngs`, an nnx.Rngs.
All its other parameters are keys of the block `model`. `factory.reads`, a set
of "images", "features" and "tokens", refuses other data. It makes an
nnx.Module, or `models.from_linen(module)` of a Linen one.

The call is given the inputs, (b, h, w, c), (b, d) or token ids (b, t), and by
name what it takes of
- `train`, `training`, `is_training`, or turned round `deterministic`,
  `use_running_average`. `model.train()` and `eval()` are called in any case:
  `(self, x)` will do for Flax's dropout and batch normalization;
- `key`, or `rngs` made from it: another in each step; None in evaluation.

It returns logits, floats (b, ..., c) or of values (b, d), or an
`nn.output.Output` with auxiliary losses and features too.

Of its variables, each nnx.Param is trained. All others are statistics
(BatchStat, NormStat, Cache, a Variable of your own, a plain array): a call may
change their values, which checkpoints hold; micro-batches start from the same,
and floats become their mean, counters and flags the largest. A `GradStat`'s
gradient is its new value. The streams of nnx.Rngs are seeded by the key in
each call; an evaluation draws the same in each batch. What a call adds or
removes is refused.

What a parameter is, for decay, matrix methods and freezing, the types of Flax's
layers say, else `parameter_roles` and `end_layers` of your module (`nn.roles`),
else its name.
"""

from typing import Any

from normjax.imports import is_outside
from normjax.registry import Registry

TABLE = {
  "llama": "normjax.models.transformer:Llama",
  "gpt2": "normjax.models.transformer:GPT2",
  "vit": "normjax.models.vit:ViT",
  "cifar_resnet": "normjax.models.resnet:CifarResNet",
  "resnet": "normjax.models.resnet:ImageNetResNet",
  "nf_resnet": "normjax.models.nf_resnet:NFResNet",
  "cifar_nf_resnet": "normjax.models.nf_resnet:CifarNFResNet",
  "nfnet": "normjax.models.nfnet:NFNet",
  "fixup_cifar_resnet": "normjax.models.fixup_resnet:FixupCifarResNet",
  "mlp": "normjax.models.mlp:MLP",
  "spiking_mlp": "normjax.models.spiking:SpikingMLP",
  "spiking_vgg": "normjax.models.spiking_images:SpikingVGG",
  "sew_resnet": "normjax.models.spiking_images:SEWResNet",
}
_REGISTRY = Registry("model", TABLE, from_outside=True)
names = _REGISTRY.names
get = _REGISTRY.get

__all__ = ["TABLE", "from_linen", "get", "make", "names"]


def __getattr__(name: str) -> Any:
  if name == "from_linen":  # Late: Flax's Linen is not light.
    from normjax.models.linen import from_linen

    return from_linen
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def make(name: str, *, rngs: Any = None, **options: Any) -> Any:
  """A model by name.

  Args:
    name: one of `names()`.
    rngs: nnx.Rngs with the stream "params"; None: nnx.Rngs(0).
    **options: of the model.

  Returns:
    An nnx.Module, called as `model(inputs, train=…, key=…)`; it gives logits,
    or an `nn.output.Output` with more. `train` is True, False or a
    `norms.Mode`; without it `model.train()` and `model.eval()` decide, and a
    new model trains.

  Raises:
    UnknownNameError: no such model.
    UserError: an unknown option, or sizes that do not fit.
  """
  if rngs is None:
    from flax import nnx  # Late: the table is light.

    rngs = nnx.Rngs(0)
  given: dict[str, Any] = {"rngs": rngs}
  if is_outside(name):
    from normjax import outside

    given = outside.taken(get(name), given)
  return _REGISTRY.make(name, **options, **given)
