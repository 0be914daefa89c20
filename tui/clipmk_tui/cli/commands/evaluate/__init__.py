"""`clipmk evaluate`: options, and the run that measures models and prints tables or JSON."""
