"""`clipmk doctor`: the command, and the checks that it prints."""
