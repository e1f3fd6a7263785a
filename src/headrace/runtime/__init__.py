"""The loop that joins engine, log and codec: the node, and the seam to the machine."""
