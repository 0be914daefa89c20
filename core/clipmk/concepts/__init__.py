"""The method's formulas as pure functions, one noun per module; `mutual` needs nothing but the standard library."""
