"""OpenAI's chat protocol for the models that answer in words: one more way to ask, not another way to a pool.

schemas (what goes in and out) ──▶ conversation (messages ──▶ one question about one image)
                                          │
models (GET /v1/models) ──────────▶ completions (POST /v1/chat/completions) ──▶ wording (the answer as JSON)
"""
