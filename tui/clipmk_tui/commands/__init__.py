"""One module per command: the arguments it takes, and a few lines that do it."""
