"""What every package may use: arrays, files, text, time, logs."""
