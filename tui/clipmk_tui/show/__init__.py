"""What the command line and the app both draw: signs, bars, half-block pictures, comparison tables.

In: records of core. Out: Rich text and strings.
"""
