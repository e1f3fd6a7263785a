"""The nouns: values, commands, records, replies, errors, limits, settings, and the seam.

Nothing here decides, waits or touches the outside world.
Words are those of `spec/glossary.md`.
"""
