"""What a hundred million list entries cost: `python -m loadtests.scale`."""
