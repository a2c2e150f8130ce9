"""Blocks of one domain, and controls beside them: `normjax.context`."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from normjax import errors, rng
from normjax.context import base as methods
from normjax.context import loop, table
from normjax.data import block_examples, blocks, splits
from normjax.nn import variables as nn_variables
from normjax.procedures import base, refused

_PROTOCOL = re.compile(r"(?P<order>[a-z]+)_(?P<size>[1-9][0-9]{0,5})")


class Context(base.Procedure):
  """Learns from blocks as `context.train` does, and predicts with few queries.

  Each of `train.accumulation_steps` micro-batches is a block.
  """

  learns = True

  @property
  def asked(self) -> str:
    """The leaf that asks for it, for messages."""
    return f"{self.block}.method={self.option('method')!r}"

  @functools.cached_property
  def method(self) -> methods.Method:
    """Of the table.

    Raises:
      UserError: no such method, or a bad option.
    """
    try:
      return table.resolve(self.option("method"))
    except errors.UserError as error:
      raise type(error)(f"{self.asked}: {error}") from error

  @property
  def _protocols(self) -> Sequence[tuple[str, blocks.Order, int]]:
    """(as written, order of the labels, queries of a block) of each."""
    found = []
    for text in self.option("protocols"):
      match = _PROTOCOL.fullmatch(text)
      if match is None or match["order"] not in blocks.ORDERS:
        raise errors.UserError(
          f"{self.block}.protocols has {text!r}; allowed:"
          f" {' or '.join(f'{order}_N' for order in blocks.ORDERS)} with N"
          " queries of a block, as 'mixed_8'."
        )
      found.append((text, match["order"], int(match["size"])))
    return found

  @property
  def _num_controls(self) -> int:
    return self.option("num_controls") if self.method.needs_controls else 0

  @property
  def _num_blocks(self) -> int:
    return self.config["train"]["accumulation_steps"]

  # ----- Before anything runs -----

  def view(self, data: Any) -> Any:
    """The data set in blocks; see `block_examples`."""
    size = self.config["train"]["batch_size"] // self._num_blocks
    method = self.method
    try:
      return block_examples.of(
        data,
        block_examples.Plan(
          self._num_blocks,
          max(size, 1),
          self._num_controls,
          self.option("control_class") if self.option("num_controls") else -1,
          method.of_one_domain,
        ),
      )
    except errors.UserError as error:
      raise errors.UserError(f"{self.asked}: {error}") from error

  def check(self, data: Any) -> None:
    """See the base."""
    del data
    _ = self._protocols
    refused.check(self.asked, self.config)
    if self.method.needs_controls and not self.option("num_controls"):
      raise errors.UserError(
        f"{self.asked} with {self.block}.num_controls=0: it needs controls;"
        f" allowed: a number above 0, and {self.block}.control_class, the class"
        " that they are of."
      )

  def check_model(self, structure, variables, data, num_devices) -> None:
    """One device; and a block of each size, in shapes."""
    refused.check_norms(self.asked, variables)
    if num_devices > 1:
      raise errors.UserError(
        f"{self.asked}: blocks are trained on one device, and the run takes"
        f" {num_devices}. Set train.num_devices=1, in one process."
      )
    inputs = data.train_batch(0, 0, 1)["inputs"]
    one, dtype = inputs.shape[1:], inputs.dtype
    for size in {size for *_, size in self._protocols} or {data.plan.size}:
      queries, controls = (
        jax.ShapeDtypeStruct((n, *one), dtype)
        for n in (size, self._num_controls)
      )
      try:
        jax.eval_shape(
          functools.partial(loop.predict, structure, self.method),
          variables["params"],
          variables["stats"],
          queries,
          controls,
        )
      except errors.UserError as error:
        raise type(error)(
          f"{self.asked}: {size} queries and {self._num_controls} controls:"
          f" {error}"
        ) from error

  # ----- A step -----

  def gradients(self, given: base.Given) -> base.Learned:
    """The mean over blocks, by a scan: statistics go from one to the next."""
    batch, count = given.batch, self._num_blocks

    def cut(x: jax.Array) -> jax.Array:
      return x.reshape(count, -1, *x.shape[1:])

    inputs = cut(batch["inputs"])
    controls = batch.get(block_examples.CONTROLS)
    drawn = loop.Blocks(
      inputs,
      cut(batch["targets"]),
      inputs[:, :0] if controls is None else cut(controls),
    )
    learned = loop.learn(
      given.structure,
      self.method,
      given.trained,
      given.params_of,
      given.stats,
      drawn,
      rng.fold(given.hyper["seed"], "context", given.step),
    )
    logits = learned.logits.reshape(-1, learned.logits.shape[-1])
    return base.Learned(learned.gradients, learned.stats, logits, learned.loss)

  # ----- What is measured -----

  def columns(self, data: Any) -> Sequence[str]:
    """The accuracy by each protocol: the mean over queries of all domains."""
    del data
    return [f"{self.block}/{text}/accuracy" for text, *_ in self._protocols]

  def measure(self, evaluated: base.Evaluated) -> Mapping[str, float]:
    """After the last step; controls are no queries."""
    if not evaluated.is_last:
      return {}
    data = evaluated.data
    stored = data.grouped(splits.VALIDATION)
    inputs = ((stored.inputs[:] - data.mean) / data.deviation).astype("float32")
    examples = stored._replace(inputs=inputs)
    model = nn_variables.merge(evaluated.structure, evaluated.variables)
    found = {}
    for text, order, size in self._protocols:
      rows = loop.accuracies(
        model,
        examples,
        self.method,
        sizes=(size,),
        orders=(order,),
        num_controls=max(self._num_controls, 1),
        seed=evaluated.seed,
      )
      hits = np.array([(row["n"], row["accuracy"]) for row in rows])
      found[f"{self.block}/{text}/accuracy"] = float(
        np.average(hits[:, 1], weights=hits[:, 0])
      )
    return found
