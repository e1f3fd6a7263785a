"""How the project shows that it keeps its promises: `make prove` runs it, `make evidence` tells."""
