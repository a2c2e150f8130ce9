"""Text of your own: UTF-8 files, or JSONL; bytes, a tokenizer file or own BPE.

Files, or what they are cut into, are documents; a hash of each says whether it
trains, tunes or validates.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults; `files` must be given."""
  return ml_collections.ConfigDict(
    {
      "name": "text_files",
      # A file, a folder (all .txt .md .jsonl … below it), or a pattern as in
      # "corpus/**/*.txt"; relative to the current folder.
      "files": ml_collections.config_dict.placeholder(str),
      "sequence_length": 256,  # tokens of a window
      # What a document is: a whole "file", a "paragraph" (up to an empty line)
      # or a "line". Of .jsonl files always a line's `jsonl_key`.
      "document": "file",
      "jsonl_key": "text",
      # "bytes"; "bpe", trained on the training documents; or the path of a
      # tokenizer.json or a SentencePiece .model.
      "tokenizer": "bytes",
      "vocab_size": 0,  # of "bpe"; 0: 256 bytes, or what the file has
      # A token of such a file that ends each document, as in "<|endoftext|>";
      # bytes and "bpe" end files with a NUL.
      "end_of_text": "",
      # Documents are drawn by a hash of their text: the same text is never in
      # two splits, and files that are added do not move the others.
      "validation_fraction": 0.1,
      "test_fraction": 0.0,
      # To make choices on: never trained on, taken from what would be.
      "tuning_fraction": 0.1,
      # Files of their own for validation, as for `files`; then none is drawn.
      "validation_files": "",
      # "skip" leaves out what is empty, not UTF-8 or without the key; run.json
      # says which.
      "on_bad_file": "refuse",
    }
  )
