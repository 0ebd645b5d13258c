"""What server, client and simulations share: data, model, accounting, messages."""
