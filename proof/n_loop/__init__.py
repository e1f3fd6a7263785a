"""The Nth call to the disk fails, for N = 1, 2, 3 … until a workload passes untouched."""
