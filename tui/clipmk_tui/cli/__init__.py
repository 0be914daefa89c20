"""The command line: options, errors and exit codes, streams, progress, tables.

In: arguments, environment, config. Out: data on stdout, everything else on stderr.
"""
