"""`clipmk explain`: options, the run over models and images, the report, and what else is written."""
