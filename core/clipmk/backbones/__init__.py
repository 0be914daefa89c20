"""The encoders: embed images and texts, give patch features, pool regions.

In: an open_clip module and its tokenizer (from `models`). Out: a `backbone.Backbone`: embeddings and features.
"""
