"""The resources of a deployment of a given size, computed from measurements."""
