"""mskt's own plugins. They know the core and never each other."""
