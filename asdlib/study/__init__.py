"""Placeholder: the room's owner writes this docstring."""
