"""The Django app: it has no models, its tasks live in Redis."""

from django.apps import AppConfig


class SisyRedisConfig(AppConfig):  # type: ignore[misc]
    """Makes ``manage.py sisy_worker`` available; settings are read from Django's ``SISY_*``."""

    name = "sisy_redis.contrib.django"
    label = "sisy_redis"
    verbose_name = "sisy-redis"
