"""Remote control, as far as it asks: what workers answer when all of them are asked at once."""
