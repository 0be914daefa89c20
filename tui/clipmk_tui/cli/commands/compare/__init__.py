"""`clipmk compare`: options, and the run that lays the answers of several models side by side."""
