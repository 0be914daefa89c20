"""How right explanations are: measured against truth on the rendered world."""
