"""Reads records and tables and says what they mean; never imports torch or the runner."""
