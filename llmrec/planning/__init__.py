"""What a run will take, by a few measured steps: time, memory, and which strategy to use."""
