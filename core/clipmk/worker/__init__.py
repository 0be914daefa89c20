"""A process that keeps models in memory and answers requests: one service for the app and for `clipmk serve`.

In: requests, one JSON object a line, over a pipe (`pipe`) or a private socket (`server`, asked by `client`). Out:
progress and results, likewise (`protocol`). Behind both transports stand one queue (`jobs`) and one `service`.
"""
