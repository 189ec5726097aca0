"""The runs: each puts a server on stage, breaks it in its own way and says what that has shown."""
