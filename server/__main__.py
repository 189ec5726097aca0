"""``python -m server`` is ``inference-engine``."""

import sys

from server.cli import main

sys.exit(main())
