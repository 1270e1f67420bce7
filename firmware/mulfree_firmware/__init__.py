"""Driving a board: host client in Python, driver and programs in C."""
