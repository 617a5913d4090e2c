"""Items of a catalog: their fields, lists and values."""
