"""Families of released models, a file each; `convert.architecture` has the
table.
"""
