"""The roles of a model's parameters, read from the types of its modules.

`nn.roles` has the words. Layers of Flax are known here. What nobody says
anything of has the kind "other", and is treated as `normjax.optim` treats trees
that it does not know: by its name.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from flax import nnx

from normjax import errors
from normjax.nn import roles
from normjax.nn.variables import value_of
from normjax.optim import dims as dims_lib
from normjax.optim import groups, masks
from normjax.optim.dims import MatrixDims
from normjax.optim.sign_constrained import non_negative_mask
from normjax.record import probes
from normjax.types import Array, PyTree

# The axis of leaves that hold several layers, as Flax's scans stack them.
STACKED = "layers"
# The axis of the features that a transformer's blocks read and write.
STREAM = "embed"


# ----- What Flax's layers are -----


def _linear(layer: nnx.Linear) -> dict[str, roles.Role]:
  del layer
  return {"kernel": roles.kernel("in", "out"), "bias": roles.bias("out")}


def _linear_general(layer: nnx.LinearGeneral) -> dict[str, roles.Role]:
  # Flax puts the batched axes first, then inputs, then outputs.
  inputs, outputs = (
    (sizes,) if isinstance(sizes, int) else sizes
    for sizes in (layer.in_features, layer.out_features)
  )
  axes = ("in",) * len(inputs) + ("out",) * len(outputs)
  return {
    "kernel": roles.kernel(*axes, outputs=len(outputs)),
    "bias": roles.bias(*axes[len(inputs) :]),
  }


def _conv(layer: nnx.Conv) -> dict[str, roles.Role]:
  window = (None,) * len(layer.kernel_size)
  return {
    "kernel": roles.kernel(*window, "in", "out"),
    "bias": roles.bias("out"),
  }


def _conv_transpose(layer: nnx.ConvTranspose) -> dict[str, roles.Role]:
  window = (None,) * len(layer.kernel_size)
  if not layer.transpose_kernel:
    return {
      "kernel": roles.kernel(*window, "in", "out"),
      "bias": roles.bias("out"),
    }
  ndim = len(window) + 2
  dims = MatrixDims((*range(-ndim, -2), -1), -2)
  role = roles.Role(roles.Kind.KERNEL, dims, (*window, "out", "in"))
  return {"kernel": role, "bias": roles.bias("out")}


def _embed(layer: nnx.Embed) -> dict[str, roles.Role]:
  del layer
  return {"embedding": roles.embedding("vocab", "embed")}


def _flax_norm(layer: nnx.Module) -> dict[str, roles.Role]:
  return roles.of_norm(layer, roles.NormSite(type(layer).__name__))


_FLAX: tuple[tuple[type, Callable[[Any], dict[str, roles.Role]]], ...] = (
  (nnx.Linear, _linear),
  (nnx.LinearGeneral, _linear_general),
  (nnx.Conv, _conv),
  (nnx.ConvTranspose, _conv_transpose),
  (nnx.Embed, _embed),
  (nnx.LayerNorm, _flax_norm),
  (nnx.RMSNorm, _flax_norm),
  (nnx.BatchNorm, _flax_norm),
  (nnx.GroupNorm, _flax_norm),
  (nnx.InstanceNorm, _flax_norm),
)


def _declared(module: nnx.Module) -> dict[str, roles.Role]:
  """What a module's class, and those that it is derived from, say."""
  said: dict[str, roles.Role] = {}
  for kind, say in _FLAX:
    if isinstance(module, kind):
      said |= say(module)
  for kind in reversed(type(module).__mro__):
    own = vars(kind).get("parameter_roles", {})
    said |= own.__get__(module) if isinstance(own, property) else own
  for name, role in said.items():
    if not isinstance(role, roles.Role):
      raise TypeError(
        f"{type(module).__name__}.parameter_roles[{name!r}] is {role!r};"
        " allowed: a Role of normjax.nn.roles, as roles.kernel('in', 'out')."
      )
  return said


# ----- The roles of a model -----


def of(model: nnx.Module) -> "Roles":
  """The roles of a model's variables; shapes will do for arrays.

  What an outer module says of a variable counts before what an inner one does.

  Args:
    model: any module. Without `end_layers`, its output layer is what is called
      so, as `head` or `classifier`.

  Raises:
    UserError: a role whose axes the variable does not have.
    TypeError: what a module says is no role.
  """
  variables = {
    "/".join(map(str, path)): variable
    for path, variable in nnx.to_flat_state(nnx.state(model))
    if not isinstance(variable, nnx.RngState)
  }
  ndims = {path: value_of(leaf).ndim for path, leaf in variables.items()}
  said: dict[str, roles.Role] = {}
  modules = sorted(nnx.iter_modules(model), key=lambda item: -len(item[0]))
  for prefix, module in modules:
    place = "/".join(map(str, prefix))
    for path, role in roles.within(place, _declared(module)).items():
      if path in ndims:
        said[path] = _fit(role, path, ndims[path])
  ends = getattr(model, "end_layers", None)
  by_path = {}
  for path, variable in variables.items():
    is_param = isinstance(variable, nnx.Param)
    unsaid = roles.Role(roles.Kind.OTHER if is_param else roles.Kind.STATISTIC)
    role = said.get(path) or _fit(unsaid, path, ndims[path])
    if role.kind not in roles.NORM_KINDS:
      role = dataclasses.replace(role, layer=_layer(path, ends))
    by_path[path] = role
  return Roles(type(model).__name__, by_path)


def _fit(role: roles.Role, path: str, ndim: int) -> roles.Role:
  """The role with a name per axis of the leaf."""
  axes: roles.Axes = role.axes or (None,) * (2 if role.dims else ndim)
  if role.dims is None:
    # A factor may be one number or one per feature.
    axes = axes[max(len(axes) - ndim, 0) :]
  if len(axes) > ndim:
    raise errors.UserError(
      f"the role of {path!r} names the axes {axes}; the parameter has {ndim}."
    )
  axes = (STACKED,) * (ndim - len(axes)) + axes
  return dataclasses.replace(role, axes=axes)


def _layer(path: str, ends: roles.Ends | None) -> roles.Layer:
  if ends is None:
    return "output" if re.fullmatch(groups.HEAD_NAMES, path) else "hidden"
  # Of a single layer that is both ends, what counts is that it is the last.
  if f"{path}/".startswith(f"{ends.output}/"):
    return "output"
  return "input" if f"{path}/".startswith(f"{ends.input}/") else "hidden"


@dataclasses.dataclass(frozen=True, eq=False)
class Roles:
  """The roles of a model's variables.

  Attributes:
    model: the name of its class, for messages.
    by_path: by paths as `nn.variables.split` makes them.
  """

  model: str
  by_path: Mapping[str, roles.Role]

  def params(self) -> Iterator[tuple[str, roles.Role]]:
    """(path, role) of the parameters."""
    for path, role in self.by_path.items():
      if role.kind is not roles.Kind.STATISTIC:
        yield path, role

  def __getitem__(self, path: str) -> roles.Role:
    """The role of a variable.

    Raises:
      UserError: the model has none of that path.
    """
    if path not in self.by_path:
      raise errors.UserError(f"{self.model} has no variable {path!r}.")
    return self.by_path[path]

  def decay_mask(self, params: PyTree) -> PyTree:
    """What the option `mask` of an optimizer takes."""
    return self._tree(params, lambda role: role.decays, masks.decay_mask)

  def selective_decay_mask(self, params: PyTree) -> PyTree:
    """The same, of the mask "input_scales"."""
    return masks.selective_decay(others=self.decay_mask)(params)

  def non_negative_mask(self, params: PyTree) -> PyTree:
    """What the option `non_negative` of an optimizer takes."""
    return self._tree(params, lambda role: role.non_negative, non_negative_mask)

  def outputs(self) -> str:
    """The pattern `exempt` of an optimizer: paths of the output layer."""
    return self._pattern(lambda role: role.layer == "output", groups.HEAD_NAMES)

  def tables(self) -> str:
    """The pattern `keep` of an optimizer: paths of embeddings."""
    return self._pattern(
      lambda role: role.kind in roles.TABLE_KINDS, groups.EMBEDDING_NAMES
    )

  def writers(self) -> str:
    """The pattern `writers` of an optimizer: kernels that write to the stream.

    Those whose outputs are the features that blocks add to, "embed".
    """
    return self._pattern(
      lambda role: (
        role.kind is roles.Kind.KERNEL and role.axes[-1:] == (STREAM,)
      ),
      groups.WRITER_NAMES,
    )

  def layers(self, asked: str, *, allowed: str = "1.0") -> list[str]:
    """The option `layers` of `optim.decay_by_layer`: a pattern for each layer.

    Layer 0 has what comes before the blocks: the input layer and all that is
    in one module with it, tables, tokens and a norm of the embedding. Layer
    i + 1 is block i, "layers/<i>". All else, as the last norm and the head, is
    the last layer, which has no pattern. So it is in BEiT's optim_factory.py.

    Args:
      asked: what asks, for the message.
      allowed: of that, with such a model.

    Raises:
      UserError: the model has no "layers/<i>".
    """
    blocks = {
      int(found[1])
      for path, _ in self.params()
      if (found := re.match(r"layers/(\d+)/", path))
    }
    if not blocks:
      raise errors.UserError(
        f"{asked}: {self.model} has no layers called layers/0, layers/1 and so"
        f" on; allowed: {allowed}."
      )
    firsts = {
      re.escape(path.partition("/")[0])
      for path, role in self.params()
      if _is_before_blocks(path, role)
    }
    first = f"({'|'.join(sorted(firsts))})(/.*)?" if firsts else "(?!)"
    # Of a multilayer perceptron the norms are a list beside the layers.
    each = (rf"(layers|norms)/{n}/.*" for n in range(max(blocks) + 1))
    return [first, *each]

  @property
  def dims(self) -> dims_lib.Matrices:
    """What the option `dims` of an optimizer takes."""
    by_name = dims_lib.default_dims
    return dims_lib.Matrices(
      hidden=lambda params: self._tree(params, _hidden, by_name),
      channels=lambda params: self._tree(
        params, lambda role: role.dims, dims_lib.channel_dims
      ),
      inner=lambda params: self._tree(params, _inner, by_name),
      maps=lambda params: self._tree(params, _map, dims_lib.map_dims),
    )

  def matrices(self, tree: PyTree) -> dict[str, Array]:
    """The hidden layers' leaves as (batch, inputs, outputs), by path.

    Args:
      tree: parameters, or what is like them.
    """
    entries = dims_lib.resolve(self.dims, tree)
    return {
      path: dims_lib.to_matrices(leaf, entry)
      for (path, leaf), entry in zip(
        probes.named_leaves(tree), entries, strict=True
      )
      if entry is not None
    }

  def _pattern(self, takes: Callable[[roles.Role], bool], by_name: str) -> str:
    """A pattern of the paths that it takes, and of no others."""
    chosen = [
      re.escape(path)
      for path, role in self.params()
      if (re.fullmatch(by_name, path) if _is_other(role) else takes(role))
    ]
    return "|".join(chosen) or "(?!)"

  def _tree(
    self,
    params: PyTree,
    answer: Callable[[roles.Role], Any],
    by_name: Callable[[PyTree], PyTree],
  ) -> PyTree:
    """The answer for each leaf; that of its name where there is no role."""
    found = [self[path] for path, _ in groups.leaves(params)]
    structure = jax.tree.structure(params)
    named: list[Any] = []
    if any(map(_is_other, found)):
      named = structure.flatten_up_to(by_name(params))
    return structure.unflatten(
      named[n] if _is_other(role) else answer(role)
      for n, role in enumerate(found)
    )


def _is_other(role: roles.Role) -> bool:
  return role.kind is roles.Kind.OTHER


def _is_before_blocks(path: str, role: roles.Role) -> bool:
  if role.layer == "output" or path.startswith("layers/"):
    return False
  return (
    role.layer == "input"
    or role.kind in {*roles.TABLE_KINDS, roles.Kind.TOKEN}
    or path.startswith(("embedding_", "stem_"))
  )


def _hidden(role: roles.Role) -> MatrixDims | None:
  """The matrices of the first layer and of the hidden ones."""
  outer = role.layer == "output" or role.kind in roles.TABLE_KINDS
  return None if outer else role.dims


def _map(role: roles.Role) -> MatrixDims | None:
  """All matrices; the inputs of a table are its rows."""
  is_table = role.kind in roles.TABLE_KINDS
  return MatrixDims(-2, -1) if is_table else role.dims


def _inner(role: roles.Role) -> MatrixDims | None:
  """Those of the hidden layers alone."""
  return None if role.layer == "input" else _hidden(role)
