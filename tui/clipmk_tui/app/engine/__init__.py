"""The engine: how the app asks a worker, its own child process or a running `clipmk serve`.

In: requests of the screens. Out: partial answers through callbacks, final ones as results or `RequestError`.
"""
