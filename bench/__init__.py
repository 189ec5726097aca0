"""Measures a running server over HTTP, and the hardware's ceiling beside it. Every script's last line is JSON."""
