"""The Python SDK: App, jobs, Client and Worker. Import from `headrace`, not from here."""
