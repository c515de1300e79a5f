"""From what benchopt stored to one table and two pictures."""
