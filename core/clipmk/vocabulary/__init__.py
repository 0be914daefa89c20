"""Words and their embeddings: reading and checking vocabularies, and the cache of what a model makes of them.

In: vocabulary files, class lists, answers of language models (`reader`, `classes`, `answers`), a text encoder. Out: a
`Vocabulary`, its questionable entries (`lint`), and its embeddings as a `TextBank` (`embeddings`, kept by `cache`).
"""
