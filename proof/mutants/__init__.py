"""Known-bad changes of the code, and the proof that the suite notices every one of them.

A suite that is green says little until it has been seen red. Each mutant is a mistake that a
reviewer could wave through, most of them shipped by somebody before; it is planted in a copy
of `src`, and the checks run on the copy until one fails. A mutant that survives is a missing
check.

- `mutant`: what a mutant and a catcher are; `engine`, `log`, `runtime`, `client`, `wire`: the
  mutants, by the part of the program that they change; `unasked`: those that whole lives once
  passed, of several parts; `catchers`: the checks they name.
- `planting` makes the copy, `catching` runs one check on it, `hunting` one mutant.

Must never change the working tree, and never believe a check that fails on good code, too.
"""
