"""History encoders: three ways to turn a user's events into the states that items are scored against."""
