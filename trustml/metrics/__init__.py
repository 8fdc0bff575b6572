"""Task metrics on arrays and texts."""
