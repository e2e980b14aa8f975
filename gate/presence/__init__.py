"""Presence at work: who opens Sessions, who follows the feed, who ends what nobody holds any more."""
