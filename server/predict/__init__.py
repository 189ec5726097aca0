"""`inference-engine predict`: many pictures, in order, by an engine of its own or a server elsewhere.

sources ──▶ ordered (some at once) ──▶ records ──▶ output: one whole record a write, so that a kill leaves no half
              │
              └── engine: server.client, to a server or to this process's own application
"""
