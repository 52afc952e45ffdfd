"""Answering requests: what that takes."""
