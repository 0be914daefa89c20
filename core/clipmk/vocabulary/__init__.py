"""Words and their embeddings: reading and checking vocabularies, and the cache of what a model makes of them.

In: vocabulary files, class lists, answers of language models, a text encoder. Out: a `Vocabulary`, and its embeddings.
"""
