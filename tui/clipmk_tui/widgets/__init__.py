"""What the panes of the app are made of."""
