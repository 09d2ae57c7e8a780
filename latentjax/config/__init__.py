"""Configs: keys, files, command-line overrides and serialization."""
