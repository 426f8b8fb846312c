"""What a report shows: curves of every environment, and pictures of some."""
