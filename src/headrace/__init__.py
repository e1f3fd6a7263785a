"""headrace: durable background jobs from one process and one directory."""
