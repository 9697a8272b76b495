"""Django models whose methods tests run; imported only in a process where Django is set up."""

import uuid

from django.db import models


class Base(models.Model):
    name = models.CharField(max_length=20, default="")

    class Meta:
        abstract = True
        app_label = "given"

    def report(self, message):
        return [type(self).__name__, self.name, message]

    async def report_later(self, message):
        return [type(self).__name__, self.name, message]

    def add(self, x, y=0):
        return x + y

    @classmethod
    def everything(cls, message):
        return cls.__name__


class ByInt(Base):
    pass


class ByStr(Base):
    code = models.CharField(max_length=20, primary_key=True)


class ByUuid(Base):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)


class HidingManager(models.Manager):
    def get_queryset(self):
        return super().get_queryset().none()


class Hidden(Base):
    objects = HidingManager()
