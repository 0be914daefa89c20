"""A data set x a pool of models: what the paper measured, for any images and any models, resumable."""
