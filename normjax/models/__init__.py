"""The model zoo: any norm in any model.

model = models.make("llama", norm="dyt", rngs=nnx.Rngs(0))
logits = model(tokens, train=False)
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
