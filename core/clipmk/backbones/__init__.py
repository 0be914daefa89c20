"""The encoders: embed images and texts, show patch features, pool regions.

In: an open_clip module (from `models`). Out: embeddings and features, as `base.Backbone` describes them.
"""
