"""Images: paths, decoding of untrusted files, the square input of a model, and masks (run-length encoding, pixels).

In: paths, bytes, arrays, PIL images. Out: uint8 RGB pictures for the encoders, masks for the records.
"""
