"""`clipmk study`: options, the run over a data set, its progress, and the report on what it found."""
