"""What each process of the service does: thin mains that wire the layers. Each offers `main(post)`, which returns when told."""
