"""The verbs of the `metcd` command, by what they are about: each module adds its own to the parser."""
