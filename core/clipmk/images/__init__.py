"""Pictures: decoding untrusted files, the square that a model sees, and masks (RLE, pixels).

In: paths, bytes, arrays, PIL images. Out: uint8 RGB pictures for the encoders, masks for the records.
"""
