"""Prune and evaluate a network in memory by the pipeline of the commands."""
