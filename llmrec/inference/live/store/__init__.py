"""The database of live users' events and of changes to the catalog."""
