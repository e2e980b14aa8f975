"""Entry points of the service's processes: each wires the layers in `main(context)`, which returns when a stop is requested."""
