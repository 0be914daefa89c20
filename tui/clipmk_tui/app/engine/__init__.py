"""Engines: how the app asks the worker, and what tests put in its place."""
