"""Orders, each with a receipt by mail: order and task are committed together or not at all."""
