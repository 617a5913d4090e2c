"""Serve a recommender over HTTP, with a demo page: `llmrec serve` and `llmrec demo`."""
