"""The one pipeline: encode a batch of images, find parts, embed them, rank concepts, build the explanation.

In: decoded images (`images`), a model (`backbones`), an embedded vocabulary (`vocabulary.embeddings`), `settings`. Out:
`explanation.Explanation`, one, a stream, or a comparison. `clipmk.explain` is the function in `api`,
which is why this room has another name.
"""
