"""Where handlers run that must not run on the worker's loop: threads and child processes."""
