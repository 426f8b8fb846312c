"""Kills runs at random moments, and gives them bad input: what is lost, and which errors appear."""
