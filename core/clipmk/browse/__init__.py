"""The table of images behind the app: opened from a study's files or filled by the app, filtered, sorted, annotated.

`study_table` and `growing_table` make an `image_table`; `filters` parses what it chooses by; `notes` keeps marks and
notes beside the data; `images` gives the file of an image to open. Nothing here imports torch or Textual.
"""
