"""What is studied and evaluated: folders, tables of paths, tar shards, rendered scenes, and their labels.

In: a path or pattern (`opening`). Out: a `Dataset` of entries whose images are decoded when they are read, and their
labels as classes of a vocabulary (`matching`).
"""
