"""What jhpo says: names that were meant, values as texts, small tables for notebooks."""
