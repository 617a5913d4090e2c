"""Readers of logs and catalogs, one for each kind of source."""
