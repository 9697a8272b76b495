"""``python -m sisy_redis`` is the same as ``sisy``."""

import sys

from sisy_redis.cli import main

if __name__ == "__main__":
    sys.exit(main())
