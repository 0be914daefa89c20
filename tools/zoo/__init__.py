"""Parts of `tools/train_zoo.py`: recipes, data, captions, the training loop and the export."""
