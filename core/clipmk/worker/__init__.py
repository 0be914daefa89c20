"""A process that keeps models warm and answers requests: one service for the app and for `clipmk serve`.

In: requests, one JSON object a line, over a pipe or a private socket. Out: progress and results, likewise.
"""
