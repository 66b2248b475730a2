"""Sequences shared by several ranks: names alone."""
