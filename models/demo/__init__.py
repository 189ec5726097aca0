"""Small demo models that ship with the engine, and the scripts that made them.

Every picture they learnt from is drawn by `scenes.py` from a seed, so the weights carry no third-party pictures.
"""
