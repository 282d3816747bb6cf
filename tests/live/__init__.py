"""What runs in a guest to see the observer watch a real kernel, and who starts it."""
