"""The settings of the project: one database, for the orders and for their tasks."""

from __future__ import annotations

import os
from pathlib import Path

DATA = Path(os.environ.get("ORDERS_DATA", ".")).resolve()
DATABASE = DATA / "orders.db"

SECRET_KEY = os.environ.get("ORDERS_SECRET_KEY", "for this machine alone")
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "orders.urls"
INSTALLED_APPS = ["orders"]
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATABASE,
        # Of many clients each waits for its turn to write, from where its transaction begins.
        "OPTIONS": {"timeout": 60, "transaction_mode": "IMMEDIATE"},
        "TEST": {"NAME": DATA / "test.db"},  # a file, for the tasks are in it as well
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = DATA / "mail"

TASKS_URL = f"sqlite:///{DATABASE}"  # on PostgreSQL: "postgresql://app@localhost/shop"
