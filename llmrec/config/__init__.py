"""Settings of every job: frozen dataclasses, filled from YAML and the command line by jsonargparse."""
