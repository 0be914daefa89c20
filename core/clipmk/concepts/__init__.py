"""The method's formulas (docs/method.md) as pure functions on tensors, arrays and plain Python, one noun per module.

In: patch features, embeddings and masks from `pipeline`. Out: saliency, parts, prompts, scores, concepts, their shared
knowledge and statistics over many images. `mutual` needs nothing but the standard library.

A new way of finding parts is a row of `part_methods.PART_METHODS`.
"""
