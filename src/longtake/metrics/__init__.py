"""Scores of finished videos."""
