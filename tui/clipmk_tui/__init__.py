"""Everything of `clipmk` that faces a terminal."""
