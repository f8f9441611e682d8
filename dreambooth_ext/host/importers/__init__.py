"""Importers of other trainers' configurations."""
