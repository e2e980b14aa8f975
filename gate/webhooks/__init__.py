"""Webhooks: signed, at-least-once delivery of events to an App's URL, with backoff and a dead-letter list for replays."""
