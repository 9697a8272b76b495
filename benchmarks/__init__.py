"""What the machine it runs on makes of one Redis and one worker process: ``python -m benchmarks``."""
