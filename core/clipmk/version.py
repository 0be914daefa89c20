"""The version of `clipmk`: a leaf, so that every room can name it."""

__version__ = "0.1.0"
