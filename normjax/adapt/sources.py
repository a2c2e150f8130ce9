"""What a stream is made of: domains of a data set, methods on a model."""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from flax import nnx

from normjax import adapt, errors
from normjax.adapt.base import Adapter
from normjax.data import corruptions
from normjax.nn.norm_layer import NormLayer
from normjax.registry import parse_call

CLEAN = "clean"
# By group: what the authors' own sets have beside `corruptions.KINDS`.
_ONLY_THERE = {"common": ("frost",), "all": ("frost", "spatter")}


def domain_names(
  entries: Iterable[str], severity: int, is_corrupted: bool = False
) -> tuple[str, ...]:
  """Each "<kind>_<severity>" once, and "clean", in the order given.

  Args:
    entries: "<kind>_<severity>", a kind, "common", "all", or "clean".
    severity: of those that name none.
    is_corrupted: whether the data set brings the images: it has those of kinds
      that `normjax.data.corruptions` leaves out, too.

  Raises:
    UserError: an unknown kind, or a severity outside 1 to 5.
  """
  found: list[str] = []
  entries = [
    each
    for entry in entries
    for each in (entry, *(_ONLY_THERE.get(entry, ()) if is_corrupted else ()))
  ]
  for entry in entries:
    kind, own = corruptions.split(entry)
    if is_corrupted and kind in _ONLY_THERE["all"]:
      own = severity if own is None else own
      found.append(f"{kind}_{corruptions.check_severity(kind, own)}")
      continue
    if entry == CLEAN:
      found.append(entry)
      continue
    names = corruptions.expand([entry])
    if corruptions.split(entry)[1] is None:
      corruptions.check_severity(entry, severity)
      names = [n for n in names if corruptions.split(n)[1] == severity]
    found += names
  return tuple(dict.fromkeys(found))


def check(model: nnx.Module, data: Any) -> None:
  """Raises UserError where a stream cannot give what a model needs."""
  if data.targets != "classes":
    raise errors.UserError(
      f"adapt: data {data.name!r} of the run has targets={data.targets!r};"
      " needed: 'classes', one per example."
    )
  for path, module in nnx.iter_modules(model):
    if isinstance(module, NormLayer) and module.norm.traits.num_domains > 1:
      raise errors.UserError(
        f"adapt: the norm {module.norm.name!r} at {'/'.join(map(str, path))}"
        " reads the domain of each example, which a stream does not say;"
        " allowed: models of norms without."
      )
  shape = data.train_batch(0, 0, 1)["targets"].shape
  if len(shape) != 1:
    raise errors.UserError(
      f"adapt: data {data.name!r} of the run has {math.prod(shape[1:])} targets"
      " per example, as tokens; needed: one, a class."
    )


def check_corruptible(data: Any) -> None:
  """Raises UserError where a data set has no images to corrupt."""
  if not hasattr(data, "corrupted") or data.reads != "images":
    raise errors.UserError(
      f"adapt: data {data.name!r} has no images to corrupt; allowed: the"
      f" domain {CLEAN!r}."
    )


def domain(data: Any, name: str) -> Any:
  """The data set with the images of a domain.

  Raises:
    UserError: it has no images to corrupt.
  """
  if name == CLEAN:
    return data
  check_corruptible(data)
  return data.corrupted(name)


def adapter(
  method: str,
  model: Any,
  data: Any,
  source: Callable[[], Iterable[Any]],
) -> Adapter:
  """A method on a model; what it needs of the data, it is given.

  Args:
    method: "name" or "name(option=value, …)".
    model: see `adapt.make`.
    data: what the model was made for.
    source: gives batches of training inputs, where a method asks for them.

  Raises:
    UserError: what `adapt.make` raises.
  """
  name, options = parse_call("adaptation method", method)
  if name in adapt.names():
    takes = inspect.signature(adapt.get(name)).parameters
    if "input_shape" in takes and "input_shape" not in options:
      options["input_shape"] = data.model_options.get("input_shape")
    if "fisher_data" in takes and "fisher_data" not in options:
      options["fisher_data"] = source()
  return adapt.make(name, model, **options)


def training_batches(data: Any, seed: int) -> Iterator[Any]:
  """2000 training examples in batches of 64, as EATA's code takes them."""
  count = min(2000, getattr(data, "num_train_examples", 2000))
  size = min(64, count)
  for step in range(count // size):
    yield data.train_batch(seed, step, size)["inputs"]


def summary(
  means: Mapping[str, float], names: Iterable[str]
) -> dict[str, float]:
  """The means over corruptions of a stream; nothing where there is none.

  Args:
    means: of `loop.Totals`.
    names: of its domains.
  """
  corrupted = {n: means[f"accuracy/{n}"] for n in names if n != CLEAN}
  if not corrupted:
    return {}
  clean = means.get(f"accuracy/{CLEAN}", 0.0)
  found = corruptions.means(corrupted, clean)
  if not clean:
    del found["relative_corrupted_accuracy"]
  return found
