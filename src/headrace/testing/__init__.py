"""For tests: a simulated machine, and the suite that every log must pass."""
