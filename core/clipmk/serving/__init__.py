"""A warm process for scripts: `clipmk serve` keeps models in memory behind a private Unix socket, `explain` asks it.

Importing this package and its client loads neither torch nor numpy; only `workshop` does, in the server.
"""
