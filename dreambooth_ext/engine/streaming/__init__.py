"""Weights, optimizer states and averages that live in the computer's memory and visit the card while it needs them."""
