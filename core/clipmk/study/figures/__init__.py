"""The pictures of a study's report, drawn with matplotlib's Agg, without pyplot.

In: `clipmk.study.results.Results`. Out: `plots.Plot`, PNG bytes with title and description. Slow to import: import
`plots` when you draw.
"""
