"""What is studied and evaluated: folders, tables, tar and Parquet shards, rendered scenes, and their labels.

In: a path or pattern (`opening`). Out: a `Dataset` of entries whose images are decoded when they are read, and their
labels as classes of a vocabulary (`matching`).
"""
