"""The core: what every other part builds on. Imports only go down its list of modules."""
