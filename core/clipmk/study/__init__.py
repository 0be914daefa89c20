"""A dataset explained by a pool of models, resumable: what the paper measured, for any images and any models.

In: a `manifest.StudyRequest` with a dataset, models, a vocabulary and settings. `resolve` makes a manifest and a plan
of it, `engines` let `shard_worker`s write a shard per model and unit of work, `tables` adds the shards up. Out: the
files that `schema` lists; `results` reads them for the terminal and for `report`.
"""
