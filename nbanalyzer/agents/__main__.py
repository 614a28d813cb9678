"""``python -m nbanalyzer.agents``."""

import sys

from .command import main

sys.exit(main())
