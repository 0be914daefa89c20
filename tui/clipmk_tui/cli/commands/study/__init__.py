"""`clipmk study`: options, the run over a dataset, its progress, and the report on what it found."""
