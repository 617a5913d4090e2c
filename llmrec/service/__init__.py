"""A recommender over HTTP, and a page to look at it: `llmrec serve` and `llmrec demo`."""
