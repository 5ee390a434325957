"""Plain data: pytrees and their structure, columns, notes, arrays as bytes."""
