"""What is studied and evaluated: folders, tables of paths, tar shards, rendered scenes, and their labels.

In: a path or pattern. Out: a `Dataset` of entries that are decoded when they are needed.
"""
