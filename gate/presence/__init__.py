"""The services of Presence: sessions, feeds, session recovery, revocation and sweeps."""
