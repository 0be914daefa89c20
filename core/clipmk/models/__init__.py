"""From a model's name to its weights: what exists (`catalog`), what a name means (`spec`), how it loads (`loading`).

In: a name such as `ViT-B-32:openai`, a folder, a checkpoint file, a module in memory. Out: a `Backbone`.
"""
