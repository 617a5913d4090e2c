"""Texts of items: templates, cleaning, and fields as text."""
