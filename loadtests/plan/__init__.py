"""What a deployment of a given size takes, computed from what was measured."""
