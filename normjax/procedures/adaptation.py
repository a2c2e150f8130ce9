"""Test-time adaptation of what a run has learned: `normjax.adapt`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from normjax import adapt, errors
from normjax.adapt import loop, protocol, sources
from normjax.nn import variables as nn_variables
from normjax.procedures import base
from normjax.registry import parse_call


class Adaptation(base.Procedure):
  """After the last step, each method on a stream of corrupted images.

  The streams are those of `normjax adapt` with the run's seed, of the split
  that the run is evaluated on.
  """

  @property
  def methods(self) -> Mapping[str, str]:
    """What is in a column's name -> the method, as the config has it.

    Raises:
      UserError: two that would have the same columns.
    """
    written = self.option("methods")
    if len(written) == 1:
      return {"adapt": written[0]}
    named = [parse_call("adaptation method", each)[0] for each in written]
    if len({*named}) < len(named):
      # Of one method with other options each is told by them.
      named = written
    found = {
      f"adapt/{name}": each for name, each in zip(named, written, strict=True)
    }
    if len(found) < len(written):
      raise errors.UserError(f"methods={tuple(written)!r} has one twice.")
    return found

  @property
  def _domains(self) -> tuple[str, ...]:
    return sources.domain_names(
      self.option("corruptions"), self.option("severity")
    )

  def _protocol(self) -> protocol.Protocol:
    return protocol.Protocol(
      setting=self.option("stream"),
      batch_size=self.option("batch_size"),
      concentration=float(self.option("concentration")),
      seed=self.config["seed"],
      passes=self.option("passes"),
    )

  def check(self, data: Any) -> None:
    """See the base; the names of methods, of the stream and its domains."""
    try:
      methods = self.methods.values()
      for method in methods:
        adapt.get(parse_call("adaptation method", method)[0])
      self._protocol()
      if not self._domains:
        raise errors.UserError("corruptions=(): needed: one, or 'clean'.")
      if {*self._domains} != {"clean"}:
        sources.check_corruptible(data)
    except errors.UserError as error:
      raise type(error)(f"{self.block}: {error}") from error

  def check_model(self, structure, variables, data, num_devices) -> None:
    """Each method on the model and a batch, in shapes."""
    del num_devices
    size = self.option("batch_size")
    inputs = data.train_batch(0, 0, 1)["inputs"]
    batch = jax.ShapeDtypeStruct((size, *inputs.shape[1:]), inputs.dtype)
    for method in self.methods.values():

      def stepped(variables, batch, method=method):
        model = nn_variables.merge(structure, variables)
        sources.check(model, data)
        made = sources.adapter(method, model, data, lambda: [batch])
        return made.step(made.init(), batch)

      try:
        jax.eval_shape(stepped, variables, batch)
      except errors.UserError as error:
        raise type(error)(
          f"{self.block}.methods: {method!r}: {error}"
        ) from error

  def columns(self, data: Any) -> Sequence[str]:
    """Of each method: the accuracy and loss of all, and of each domain."""
    domains = self._domains
    summary = sources.summary(
      {f"accuracy/{name}": 1.0 for name in domains}, domains
    )
    names = ["accuracy", "loss", *summary]
    names += [f"{m}/{d}" for d in domains for m in ("accuracy", "loss")]
    return [f"{prefix}/{name}" for prefix in self.methods for name in names]

  def measure(self, evaluated: base.Evaluated) -> Mapping[str, float]:
    """After the last step; see `columns`."""
    if not evaluated.is_last:
      return {}
    most = self.option("num_examples") or None
    domains = {
      name: protocol.gather(sources.domain(evaluated.data, name), most)
      for name in self._domains
    }
    found = {}
    for prefix, method in self.methods.items():
      model = nn_variables.merge(evaluated.structure, evaluated.variables)
      model.eval()

      def source(evaluated=evaluated) -> Iterator[Any]:
        return sources.training_batches(evaluated.train, evaluated.seed)

      made = sources.adapter(method, model, evaluated.data, source)
      totals, _ = loop.run(made, domains, self._protocol())
      means = totals.means()
      means |= sources.summary(means, self._domains)
      found |= {f"{prefix}/{name}": value for name, value in means.items()}
    return found
