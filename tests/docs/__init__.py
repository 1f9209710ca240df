"""Tests of the documentation: its code runs, its tables and links are true."""
