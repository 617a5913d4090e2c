"""Live users: their state, its storage and its replication."""
