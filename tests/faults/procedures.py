"""Planted in what a run does beyond plain training."""

from tests.faults.fault import Fault

_CONTINUAL = "tests/procedures/test_continual.py"
_CONTEXT = "tests/procedures/test_context.py"

FAULTS = (
  Fault(
    "a replay of what is not in the buffer yet",
    "normjax/procedures/continual.py",
    "buffer.num_seen >= size",
    "buffer.num_seen >= 0",
    f"{_CONTINUAL}::test_a_run_is_the_loop_of_continual_learning",
  ),
  Fault(
    "forgetting by the evaluations of other steps",
    "normjax/procedures/continual.py",
    "for end in self.stops()[:-1]]",
    "for end in self.stops()[1:]]",
    f"{_CONTINUAL}::test_what_is_measured",
  ),
  Fault(
    "an order of classes that is that of all seeds",
    "normjax/data/task_examples.py",
    "streams.split_classes(made.train[1], num_tasks, seed)",
    "streams.split_classes(made.train[1], num_tasks, 0)",
    f"{_CONTINUAL}::test_tasks_of_a_data_set",
  ),
  Fault(
    "controls that are asked for answers",
    "normjax/data/block_examples.py",
    "np.asarray(labels) == control",
    "np.asarray(labels) < 0",
    f"{_CONTEXT}::test_blocks_of_a_data_set",
  ),
  Fault(
    "streams of another seed than the run's",
    "normjax/procedures/adaptation.py",
    '      seed=self.config["seed"],\n',
    '      seed=self.config["seed"] + 1,\n',
    "tests/procedures/test_adaptation.py"
    "::test_columns_are_the_numbers_of_the_command",
  ),
)
