"""Small programs that say what a library sees of this machine, as lines of JSON. Run by `inference-engine doctor`, each
in a process of its own, because importing the library may fail, and asking a driver may hang."""
