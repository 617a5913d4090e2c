"""Files of pretrained models: where they are, what they say, and how they are loaded."""
