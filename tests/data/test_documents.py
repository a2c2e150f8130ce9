import numpy as np

from normjax.data.documents import Documents


class Rows:
  """Random access to texts, as a TFDS data source gives it."""

  def __init__(self, texts):
    self.texts = texts

  def __len__(self):
    return len(self.texts)

  def __getitems__(self, index):
    return [{"text": self.texts[i]} for i in index]


def _bytes(texts):
  return [np.frombuffer(text, np.uint8) for text in texts]


def _documents(train, validation=(b"x",), length=8):
  return Documents(
    name="small",
    train=Rows(train),
    validation=Rows(validation),
    encode=_bytes,
    vocab_size=256,
    sequence_length=length,
    bytes_per_token=1.0,
    provenance={},
  )


def _windows(batch):
  joined = np.concatenate([batch["inputs"], batch["targets"][:, -1:]], axis=1)
  return [row.astype(np.uint8).tobytes() for row in joined]


def test_a_short_document_goes_on_with_those_behind_it():
  texts = [b"aa", b"bbb", b"c", b"dddd"]
  stored = b"\0".join([*texts, *texts, *texts, b""])
  expected = set()
  for text in texts:
    start = stored.index(text)
    expected.add(stored[start : start + 9])
  data = _documents(texts)
  for step in range(5):  # Four windows are an epoch.
    assert set(_windows(data.train_batch(0, step, 4))) == expected


def test_every_document_starts_one_window_an_epoch():
  texts = [b"%03d-text" % i for i in range(100)]
  data = _documents(texts)
  for epoch in range(3):
    windows = [
      window
      for step in range(10)
      for window in _windows(data.train_batch(4, 10 * epoch + step, 10))
    ]
    assert sorted(windows) == [text + b"\0" for text in texts]
    assert windows != sorted(windows)


def test_a_long_document_is_cut_at_any_place():
  text = bytes(range(1, 21))
  data = _documents([text])
  starts = {
    window[0]
    for step in range(40)
    for window in _windows(data.train_batch(0, step, 8))
  }
  # With its NUL it has 21 tokens: windows of 9 start at 13 places. A place is
  # missed in 320 draws with probability (12/13)^320 < 1e-11.
  assert starts == set(range(1, 14))
  for window in _windows(data.train_batch(0, 0, 8)):
    assert window in text + b"\0"


def test_evaluation_is_the_stream_of_all_documents():
  texts = [b"%d" % i * (i % 7) for i in range(150)]
  stream = b"".join(text + b"\0" for text in texts)
  data = _documents([b"train"], texts)
  for batch_size in (1, 4, 1000):
    batches = list(data.evaluation_batches(batch_size))
    targets = b"".join(
      batch["targets"][batch["weight"] > 0].astype(np.uint8).tobytes()
      for batch in batches
    )
    inputs = b"".join(
      batch["inputs"][batch["weight"] > 0].astype(np.uint8).tobytes()
      for batch in batches
    )
    assert targets == stream[1:]
    assert inputs == stream[:-1]
    assert all(b["inputs"].shape == (batch_size, 8) for b in batches)


def test_evaluation_reads_no_more_than_it_is_asked_for():
  class Counted(Rows):
    read = 0

    def __getitems__(self, index):
      self.read += len(index)
      return super().__getitems__(index)

  rows = Counted([b"a document"] * 10_000)
  data = _documents([b"train"])
  data = Documents(**{**vars(data), "validation": rows})
  assert len(list(data.evaluation_batches(2, 3))) == 3
  assert rows.read < 200
