"""What each parameter is: every model, beside what its name says."""

import re
from typing import ClassVar

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from normjax import errors, models, norms
from normjax.nn import mixing, model_roles, roles
from normjax.nn import variables as nn_variables
from normjax.nn.norm_layer import NormLayer
from normjax.norms import weights
from normjax.optim import dims, groups, masks
from normjax.optim.dims import MatrixDims
from normjax.optim.sign_constrained import non_negative_mask
from tests.contracts import model_contract

SIZES = model_contract.SIZES
# Parameters of our models that have the kind "other", and why.
OTHERS: dict[str, str] = {}
# Options that make parameters which the defaults don't.
OPTIONS = [
  ("llama", {"use_bias": True, "num_kv_heads": 1, "output_gate": "headwise"}),
  ("llama", {"reader_scales": True, "scaled_embeddings": True}),
  (
    "llama",
    {
      "norm": "rms_norm(scale_form='magnitude_direction')",
      "reader_scales": True,
      "reader_output_scales": "normalized",
      "num_kv_heads": 1,
    },
  ),
  ("llama", {"reader_output_scales": "plain", "num_kv_heads": 1}),
  ("llama", {"tied_embeddings": True, "activation": "gelu"}),
  (
    "llama",
    {
      "placement": "normalized_stream",
      "norm": "l2_norm",
      "learned_temperature": True,
    },
  ),
  (
    "llama",
    {
      "slot_norms": {"query_key": "gated_norm", "inner": "layer_norm"},
      "output_gate": "elementwise",
    },
  ),
  ("vit", {"pooling": "mean"}),
  ("cifar_resnet", {"version": "v2", "shortcut": "project"}),
  ("cifar_resnet", {"shortcut": "project"}),
  ("nf_resnet", {"se_ratio": 0.5, "skip_init": True, "stem_bias": True}),
  *(
    (name, {"dynamics": "excitatory_inhibitory", "norm": "identity"})
    for name in ("spiking_mlp", "spiking_vgg", "sew_resnet")
  ),
  *(
    ("gpt2", {"residual": name})
    for name in ("skip_init", "rezero", "layer_scale", "fixup")
  ),
  *(("vit", {"mixing": name}) for name in mixing.names()),
  *(
    (model, {"weight_norm": name})
    for model in ("cifar_resnet", "mlp")
    for name in weights.names()
  ),
]


def make(name, **options):
  """The model's shapes, of its smallest size."""
  options = SIZES.get(name, {}) | options
  return nnx.eval_shape(lambda: models.make(name, **options))


def params_of(model):
  return nn_variables.split(model)[1]["params"]


def check(model):
  """Its roles are complete, and say what names say."""
  found, params = model_roles.of(model), params_of(model)
  leaves = groups.leaves(params)
  for path, leaf in leaves:
    assert len(found[path].axes) == leaf.ndim, path
    assert found[path].kind is not roles.Kind.OTHER or path in OTHERS
  assert masks.decay_mask(params) == found.decay_mask(params)
  for default in (dims.default_dims, dims.channel_dims):
    named = dims.resolve(None, params, default)
    typed = dims.resolve(found.dims, params, default)
    for (path, _), theirs, ours in zip(leaves, named, typed, strict=True):
      assert theirs == ours, path
  assert non_negative_mask(params) == found.non_negative_mask(params)
  for path, _ in leaves:
    for by_name, by_role in (
      (groups.HEAD_NAMES, found.outputs()),
      (groups.EMBEDDING_NAMES, found.tables()),
    ):
      same = bool(re.fullmatch(by_name, path)) == bool(
        re.fullmatch(by_role, path)
      )
      assert same, path


@pytest.mark.parametrize("name", models.names())
def test_every_parameter_of_every_model_has_the_role_of_its_name(name):
  without = name in model_contract.WITHOUT_NORM
  chosen = ("identity",) if without else ("layer_norm", "gated_norm")
  for norm in chosen:
    check(make(name, norm=norm))


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_so_has_what_options_add(name, options):
  check(make(name, **options))


@pytest.mark.parametrize("name", norms.names())
def test_every_norm_has_roles(name):
  layer = nnx.eval_shape(lambda: NormLayer(name, (32,)))
  found = model_roles.of(layer)
  assert all(role.norm.name == name for _, role in found.params())
  assert {role.kind for _, role in found.params()} <= roles.NORM_KINDS
  held = nn_variables.split(layer)[1]
  for path, role in found.by_path.items():
    is_statistic = path in held["stats"] or path in held["grad_stats"]
    assert (role.kind is roles.Kind.STATISTIC) == is_statistic


# ----- The two ends, and where Muon sends them -----


class OneLayer(nnx.Module):
  """What reads the data gives the output."""

  end_layers = roles.Ends("head", "head")

  def __init__(self):
    self.head = nnx.Linear(3, 2, rngs=nnx.Rngs(0))


def test_a_single_layer_is_the_output():
  found = model_roles.of(nnx.eval_shape(OneLayer))
  assert {role.layer for _, role in found.params()} == {"output"}


@pytest.mark.parametrize(
  ("name", "read", "given"),
  [
    ("llama", "embedding/embedding", "head/kernel"),
    ("gpt2", "embedding/embedding", ""),
    ("vit", "patch_conv/kernel patch_conv/bias", "head/kernel head/bias"),
    ("cifar_resnet", "stem/conv/kernel", "head/kernel head/bias"),
    ("nfnet", "stem/convs/0", "head/kernel head/bias"),
    ("fixup_cifar_resnet", "stem/kernel", "head/kernel head/bias"),
    ("mlp", "layers/0/kernel layers/0/bias", "head/kernel head/bias"),
    ("spiking_mlp", "layers/0/incoming/dense", "readout/dense"),
  ],
)
def test_the_layers_at_the_two_ends(name, read, given):
  found = model_roles.of(make(name))
  for layer, paths in (("input", read.split()), ("output", given.split())):
    inside = {path for path, role in found.params() if role.layer == layer}
    assert bool(paths) == bool(inside)
    for path in inside:
      assert any(path.startswith(start) for start in paths), path


def test_only_inner_matrices_leave_the_first_layer_out():
  """What Muon and NorMuon ask for; the norm in the stem is not that layer."""
  model = make("cifar_resnet", norm="gated_norm")
  found, params = model_roles.of(model), params_of(model)
  paths = [path for path, _ in groups.leaves(params)]
  hidden, inner = (
    {
      path
      for path, entry in zip(paths, dims.resolve(spec, params), strict=True)
      if entry is not None
    }
    for spec in (found.dims, dims.inner(found.dims))
  )
  assert hidden - inner == {"stem/conv/kernel"}
  assert "stem/norm/norm/gate_up" in inner
  # What is no answer of ours stays as it is.
  assert dims.inner(None) is None
  assert dims.inner(params) is params


# ----- Which norm -----


def test_a_parameter_knows_its_norm():
  options = {"mixing": "soft"}
  found = model_roles.of(make("vit", norm="rms_norm", **options))
  scale = found["layers/1/attention_input_norm/scale"]
  assert scale.kind is roles.Kind.NORM_SCALE
  site = roles.NormSite("rms_norm", "layers/1/attention_input_norm")
  assert scale.norm == site
  # A method's own norm is one too.
  landmark = "layers/0/attention/mixing/landmark_norm"
  assert found[f"{landmark}/bias"].kind is roles.Kind.NORM_BIAS
  assert found[f"{landmark}/bias"].norm == roles.NormSite(
    "layer_norm", landmark
  )
  assert found["layers/0/attention/query/kernel"].norm is None
  assert str(scale) == "norm scale (rms_norm)"
  assert str(found["head/bias"]) == "output bias"


def test_a_norm_of_weights_has_gains():
  found = model_roles.of(
    make("mlp", weight_norm="weight_norm", norm="batch_norm")
  )
  gain = found["layers/1/weight_norm/gain"]
  assert gain.kind is roles.Kind.GAIN
  assert gain.norm == roles.NormSite(
    "weight_norm", "layers/1/weight_norm", "weights"
  )
  assert found["norms/0/norm/mean"].kind is roles.Kind.STATISTIC
  assert found["norms/0/norm/mean"].norm.name == "batch_norm"


# ----- Modules of one's own -----


class _Port(nnx.Module):
  """Flax's layers under names that say nothing."""

  def __init__(self, rngs):
    self.a = nnx.Linear(3, 4, rngs=rngs)
    self.b = nnx.LinearGeneral((2, 3), (4, 5), axis=(-2, -1), rngs=rngs)
    self.c = nnx.Conv(3, 8, (5,), rngs=rngs)
    self.d = nnx.ConvTranspose(3, 8, (2, 2), transpose_kernel=True, rngs=rngs)
    self.e = nnx.Embed(7, 4, rngs=rngs)
    self.f = nnx.LayerNorm(4, rngs=rngs)
    self.g = nnx.BatchNorm(4, rngs=rngs)
    self.classifier = nnx.Linear(4, 2, rngs=rngs)
    self.stacked = nnx.vmap(lambda rngs: nnx.Linear(3, 4, rngs=rngs))(
      rngs.split(6)
    )


def test_layers_of_flax_have_roles():
  found = model_roles.of(nnx.eval_shape(lambda: _Port(nnx.Rngs(0)))).by_path
  assert {path: str(role) for path, role in found.items()} == {
    **{f"{name}/kernel": "kernel" for name in "abcd"},
    **{f"{name}/bias": "bias" for name in "abcd"},
    "e/embedding": "embedding",
    "f/scale": "norm scale (LayerNorm)",
    "f/bias": "norm bias (LayerNorm)",
    "g/scale": "norm scale (BatchNorm)",
    "g/bias": "norm bias (BatchNorm)",
    "g/mean": "statistic (BatchNorm)",
    "g/var": "statistic (BatchNorm)",
    # By name, since this model does not say which its output layer is.
    "classifier/kernel": "output kernel",
    "classifier/bias": "output bias",
    "stacked/kernel": "kernel",
    "stacked/bias": "bias",
  }
  assert found["b/kernel"].dims == MatrixDims((-4, -3), (-2, -1))
  assert found["c/kernel"].dims == MatrixDims((-3, -2), (-1,))
  assert found["d/kernel"].dims == MatrixDims((-4, -3, -1), -2)
  assert found["e/embedding"].dims == MatrixDims(-1, -2)
  assert found["stacked/kernel"].dims == MatrixDims((-2,), (-1,))
  assert found["stacked/kernel"].axes == ("layers", "in", "out")
  assert found["stacked/bias"].axes == ("layers", "out")


class _Mixer(nnx.Module):
  """A new layer: it says what it has, and what its inner layer's axes are."""

  parameter_roles: ClassVar = {
    "mix": roles.kernel("embed", "rank"),
    "inner/kernel": roles.kernel("rank", "embed"),
  }

  def __init__(self, rngs):
    self.mix = nnx.Param(jnp.zeros((6, 2)))
    self.inner = nnx.Linear(2, 6, rngs=rngs)


class _GatedMixer(_Mixer):
  """What it is derived from has said its part."""

  @property
  def parameter_roles(self):
    return {"gate": roles.gain("embed")}

  def __init__(self, rngs):
    super().__init__(rngs)
    self.gate = nnx.Param(jnp.ones(6))
    self.forgotten = nnx.Param(jnp.zeros((6, 6)))
    self.forgotten_bias = nnx.Param(jnp.zeros((2, 6)))


class _Holder(nnx.Module):
  end_layers = roles.Ends("blocks/0", "out")

  def __init__(self, rngs):
    self.blocks = nnx.List([_GatedMixer(rngs), _GatedMixer(rngs)])
    self.out = nnx.Linear(6, 3, rngs=rngs)
    # Not the output layer: the model says which it is.
    self.head = nnx.Linear(6, 6, rngs=rngs)


def test_a_new_module_says_what_it_has():
  model = nnx.eval_shape(lambda: _Holder(nnx.Rngs(0)))
  found, params = model_roles.of(model), params_of(model)
  assert found["blocks/1/mix"] == roles.kernel("embed", "rank")
  # The outer word counts, and what it does not say is the layer's.
  assert found["blocks/1/inner/kernel"].axes == ("rank", "embed")
  assert found["blocks/1/inner/bias"] == roles.bias("out")
  assert found["blocks/1/gate"] == roles.gain("embed")
  assert found["blocks/0/mix"].layer == "input"
  assert found["out/bias"].layer == "output"
  assert found["head/kernel"].layer == "hidden"
  # What nobody says is "other", and goes by its name as it did before.
  assert found["blocks/1/forgotten"].kind is roles.Kind.OTHER
  by_path = dict(groups.leaves(found.decay_mask(params)))
  assert by_path["blocks/1/forgotten"]
  assert not by_path["blocks/1/forgotten_bias"]
  entries = dims.resolve(found.dims, params)
  of_path = dict(zip(by_path, entries, strict=True))
  assert of_path["blocks/1/forgotten"] == MatrixDims((0,), (1,))
  assert of_path["blocks/1/forgotten_bias"] is None
  assert of_path["head/kernel"] == MatrixDims((0,), (1,))
  assert of_path["out/kernel"] is None


def test_a_role_that_does_not_fit_is_an_error():
  class Wrong(nnx.Module):
    parameter_roles: ClassVar = {
      "w": roles.kernel("height", "width", "in", "out")
    }

    def __init__(self):
      self.w = nnx.Param(jnp.zeros((3, 4)))

  with pytest.raises(errors.UserError, match=r"'w' names the axes .*has 2"):
    model_roles.of(Wrong())


def test_what_is_no_role_is_an_error():
  class Wrong(nnx.Module):
    parameter_roles: ClassVar = {"w": "kernel"}

  with pytest.raises(TypeError, match=r"Wrong.parameter_roles\['w'\] is"):
    model_roles.of(Wrong())


def test_a_module_in_two_places_has_its_roles_once():
  class Shared(nnx.Module):
    def __init__(self, rngs):
      self.b = nnx.Linear(2, 3, rngs=rngs)
      self.a = self.b

  model = nnx.eval_shape(lambda: Shared(nnx.Rngs(0)))
  found = model_roles.of(model).by_path
  assert set(found) == {path for path, _ in groups.leaves(params_of(model))}
  assert {role.kind for role in found.values()} == {
    roles.Kind.KERNEL,
    roles.Kind.BIAS,
  }


def test_a_tree_of_another_model_is_an_error():
  found = model_roles.of(make("mlp"))
  with pytest.raises(errors.UserError, match="MLP has no variable 'other/w'"):
    found.decay_mask({"other": {"w": jnp.zeros(2)}})
  assert jax.tree.leaves(found.decay_mask({})) == []
