"""Adaptation of a backbone by the items of a log: vectors of users are not needed, and new items profit."""
