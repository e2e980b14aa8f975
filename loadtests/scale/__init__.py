"""The costs of a hundred million list entries: `python -m loadtests.scale`."""
