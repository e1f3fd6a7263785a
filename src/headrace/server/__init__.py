"""The edges of the node: sockets in, commands out. Doors translate, and decide nothing."""
