"""One step of an optimizer with 8-bit moments: what its ops share.

An op is a `rule.Rule`, what the optimizer does to an entry; the passes over
memory here are of any rule.
"""
