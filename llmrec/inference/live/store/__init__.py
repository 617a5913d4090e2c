"""Databases of the events and items of a service."""
