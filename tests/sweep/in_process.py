"""A second executor: runs in the sweep's own process, one after the other."""

import importlib

from normjax.sweep import worker
from normjax.sweep.executor import Died, Interrupted, Ready


class InProcess:
  """Slots that are names only: each list of lanes is run when it is given."""

  same_machine = True

  def __init__(self, *, out, runner, num_slots, lock):
    module, _, name = runner.partition(":")
    self._runner = getattr(importlib.import_module(module), name)
    self._said = []

  @staticmethod
  def default_num_slots():
    return 1

  def start(self, slot):
    self._said.append(Ready(slot))

  def submit(self, slot, lanes):
    said = list(worker.run_list(slot, self._runner, lanes))
    self._said += said
    if any(isinstance(each, Interrupted) for each in said):
      self._said.append(Died(slot, "interrupted"))

  def events(self, timeout_s):
    while self._said:
      yield self._said.pop(0)

  def end(self, slot):
    self._said = [each for each in self._said if each.slot != slot]

  def stop(self, grace_s):
    return list(self.events(0.0))
