"""Times of events as people write them."""
