"""Full ranking, metrics, intervals, slices, baselines and the report made of them."""
