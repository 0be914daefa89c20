"""`clipmk serve`: options; the run that serves, prints the state of a server, or stops it."""
