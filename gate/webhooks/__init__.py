"""Webhooks: what Apps are told without asking. Signed, at least once, with backoff, given up at last and kept for a replay."""
