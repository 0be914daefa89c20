"""The app: state, questions to the engine, keys, screens and widgets.

In: keys, and the messages of an engine. Out: the screen, and files that the user asks for.
"""
