"""Search of the items nearest to a vector: exact, quantized, or by an index."""
