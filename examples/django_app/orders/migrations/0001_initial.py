"""The table of the orders."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """As ``manage.py makemigrations`` writes it."""

    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            name="Order",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("email", models.EmailField(max_length=254)),
                ("things", models.PositiveIntegerField()),
            ],
        ),
    )
