"""What the operating system gives and takes: files and locks, config, locations, memory, safe text, quiet libraries.

In: paths, environment, bytes. Out: checked values for every other room; it imports nothing of ours but `errors`.
"""
