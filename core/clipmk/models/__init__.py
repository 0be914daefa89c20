"""From the name of a model to its weights: catalog, aliases, pools, the hub and its cache, checkpoints, loading.

In: a name such as `ViT-B-32:openai`, a folder, a file, a module in memory. Out: a `backbones.base.Backbone`.
"""
