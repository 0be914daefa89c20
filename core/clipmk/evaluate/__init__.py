"""How right, how faithful and how useful explanations are: every variant of explaining, measured on the same images.

In: a model (`backbones`), a vocabulary, images and what is known about them (`samples`: rendered scenes or a dataset).
`harness.run` goes through the images once; `variants` explains each by every variant on the stages of `pipeline`; the
measures (`truth`, `reasons`, `checks`, `faithfulness`, `zero_shot`) compare the results with baselines. Out: one
`report.Report` per measure, of means with intervals, as tables and as JSON. `metrics` holds the formulas; `baselines`,
`perturbations` and `prompt_sets` what a variant is compared with or judged by.
"""
