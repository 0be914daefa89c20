"""The commands of `clipmk`: a module each."""
