"""What a user did -> the states that items are scored against, in three ways."""
