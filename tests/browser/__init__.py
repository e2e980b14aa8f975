"""Tests of pages in a real Chromium, against a real `gate serve`."""
