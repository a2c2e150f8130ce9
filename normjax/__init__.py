"""normjax: does this normalization, or this normalized optimizer, help?

Three ways in: launch a sweep (`normjax sweep CONFIG`), import the parts
(`normjax.norms`, `normjax.optim`, `kernels_pallas`), reproduce a table.
Importing `normjax` itself imports nothing heavy.
"""

__version__ = "0.1.0"
