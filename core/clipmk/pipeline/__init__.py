"""The one pipeline: encode a batch of images, find parts, embed them, rank concepts, build explanations.

In: decoded pictures (`images`), a model (`backbones`), an embedded vocabulary (`vocabulary.embeddings`), `settings`.
Out: `explanation.Explanation`, one, a list or a stream; `comparison.Comparison` of several.

The stages, in order: `encoder` (forwards), `segmentation` (parts), `grounding` (part embeddings), `ranking` (vision
concepts), `builder` (the record). `explainer` and `stream` run them; studies and evaluations use the same stages.
"""
