"""The arena: every method that learns in context, on the same histories of the same tasks."""
