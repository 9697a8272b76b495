"""The worker: many small loops, started by ``python -m sisy_redis.worker``."""
