"""The service: a supervisor and the processes it keeps alive. The only package that sees every layer."""
