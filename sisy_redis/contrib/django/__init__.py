"""sisy-redis as a Django app: put ``"sisy_redis.contrib.django"`` into ``INSTALLED_APPS``."""
